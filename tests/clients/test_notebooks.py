"""What AWS's own notebooks do with the built-in algorithm, with the SDK v2 they are written for."""

import re

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

K = 10
NEIGHBOURS = 100  # of a document


@pytest.fixture(scope="module")
def fit(digits, write_records, write_job, train):
    """Puts the digits into the train and the test channel as recordio-protobuf and trains."""
    arrays = {"train": digits.train_rows, "test": digits.test_rows}
    labels = {"train_labels": digits.train_labels, "test_labels": digits.test_labels}
    files = write_records(
        arrays | labels,
        {f"{name}/recordio-pb-data": (name, f"{name}_labels", False) for name in arrays},
    )

    def fit_(**hyperparameters):
        base = write_job(files, content_type=None, feature_dim=64, k=K, sample_size=200000, **hyperparameters)
        return base, train(base)

    return fit_


@pytest.fixture(scope="module")
def ask(sdk_v2, serving, digits, tmp_path_factory):
    queries = tmp_path_factory.mktemp("queries") / "queries.npy"
    np.save(queries, digits.test_rows)

    def ask_(base):
        with serving(base) as port:
            return sdk_v2.run("sdk_v2_batches.py", port=port, queries=queries).result

    return ask_


@pytest.fixture(scope="module")
def exact(fit, ask):
    """The first example: an exact index. Gives the log of the training and the answers."""
    base, log = fit()
    return log, ask(base)


def accuracy(log):
    return float(re.search(r"#quality_metric: host=algo-1, test accuracy <score>=(\S+)", log)[1])


def test_the_log_has_the_accuracy(exact, digits):
    log, _ = exact
    assert accuracy(log) == pytest.approx(digits.model(K).score(digits.queries, digits.test_labels))


def test_a_hundred_batches_are_answered(exact, digits):
    _, answers = exact
    assert answers["predicted"] == digits.model(K).predict(digits.queries).tolist()


def test_batches_are_answered_with_neighbours(exact, digits, assert_neighbours):
    _, answers = exact
    assert_neighbours(answers["verbose"], digits.model(K), digits.train_labels, digits.queries)


def test_neighbours_choose_k(exact, digits):
    """The accuracy for each smaller k comes from the first so many neighbours, without another request."""
    _, answers = exact
    labels = np.array([row["labels"] for row in answers["verbose"]]).astype(int)
    found, expected = {}, {}
    for k in range(1, K + 1):
        votes = np.array([np.bincount(row[:k]).argmax() for row in labels])
        found[k] = accuracy_score(digits.test_labels, votes)
        expected[k] = digits.model(k).score(digits.queries, digits.test_labels)
    assert found == pytest.approx(expected)
    assert len(set(found.values())) > 1
    assert max(found, key=found.get) == max(expected, key=expected.get)


def test_the_compressed_index_is_nearly_as_good(fit, ask, digits):
    """The second example of the notebook, where time counts."""
    base, log = fit(index_type="faiss.IVFPQ", faiss_index_ivf_nlists=10, faiss_index_pq_m=32)
    predicted = ask(base)["predicted"]
    assert accuracy(log) == pytest.approx(accuracy_score(digits.test_labels, predicted))
    assert accuracy(log) > digits.model(K).score(digits.queries, digits.test_labels) - 0.06


@pytest.fixture(scope="module")
def documents():
    """The shares of 20 topics in documents, as a topic model gives them: sums of 1, most of them small."""
    random = np.random.default_rng(3)
    topics = random.dirichlet(np.full(20, 0.3), size=400).astype(np.float32)
    return topics[:380], topics[380:]


@pytest.fixture(scope="module")
def recommender(documents, write_records, write_job, train):
    """A model of the first documents. Labels are their numbers."""
    there, _ = documents
    arrays = {"topics": there, "numbers": np.arange(len(there), dtype=np.float32)}
    (content,) = write_records(arrays, {"topics.pbr": ("topics", "numbers", False)}).values()
    base = write_job(
        {"train/topics.pbr": content},
        content_type=None,
        feature_dim=20,
        k=NEIGHBOURS,
        sample_size=len(there),
        index_metric="COSINE",
    )
    train(base)
    return base


def test_documents_are_recommended(recommender, documents, serving, sdk_v2, tmp_path):
    there, asked = documents
    np.save(tmp_path / "asked.npy", asked)
    with serving(recommender) as port:
        answers = sdk_v2.run("sdk_v2_documents.py", port=port, queries=tmp_path / "asked.npy").result

    wide, questions = there.astype(np.float64), asked.astype(np.float64)
    similarities = questions @ wide.T
    similarities /= np.linalg.norm(wide, axis=1) * np.linalg.norm(questions, axis=1)[:, np.newaxis]
    for answer, similarity in zip(answers, similarities, strict=True):
        nearest = np.argsort(-similarity)[:NEIGHBOURS]
        # As the tutorial does: the last labels, from the back, are those of the most similar documents.
        assert answer["labels"][::-1][:10] == nearest[:10].tolist()
        assert answer["labels"] == nearest[::-1].tolist()
        assert answer["distances"] == sorted(answer["distances"])
        np.testing.assert_allclose(answer["distances"], similarity[nearest[::-1]], rtol=1e-5, atol=1e-6)
