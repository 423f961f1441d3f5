"""What a job may ask for beyond the main path, through training and serving."""

import json
import shutil

import faiss
import numpy as np
import pytest
from scipy.stats import gmean
from sklearn.datasets import load_diabetes
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

RECORDIO = "application/x-recordio-protobuf"
SPELLED = {"L2": "euclidean", "COSINE": "cosine"}  # as scikit-learn spells them


@pytest.fixture(scope="module")
def diabetes():
    rows, labels = load_diabetes(return_X_y=True)
    return (10 * rows).astype(np.float32), labels


@pytest.fixture(scope="module")
def answers(recordio):
    """Asks for (n, d) rows and gives the columns."""

    def answers_(client, rows, options="verbose=true"):
        accept = {"Accept": f"application/json; {options}"}
        response = client.post("/invocations", data=recordio.rows(rows), content_type=RECORDIO, headers=accept)
        assert response.status_code == 200, response.data
        found = response.get_json()["predictions"]
        return {name: np.array([row[name] for row in found]) for name in found[0]}

    return answers_


@pytest.fixture(scope="module")
def fit(train, recordio):
    """Trains on (n, d) rows and gives the model's folder."""

    def fit_(rows, labels, **hyperparameters):
        files = {"train/rows": recordio.rows(rows, labels, label_kind="float64")}
        return train(files, content_type=RECORDIO, **hyperparameters) / "model"

    return fit_


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def without_ties(model, queries, k):
    """Queries of which no neighbour is a copy and the k-th is nearer than the next."""
    distances, _ = model.kneighbors(queries, k + 1)
    return (distances[:, 0] > 1e-6) & (distances[:, k] - distances[:, k - 1] > 1e-6)


@pytest.mark.parametrize("metric", ["L2", "COSINE"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_a_classifiers_votes_are_scikit_learns(*, fit, serve, answers, digits, weights, metric):
    client = serve(fit(digits.train_rows, digits.train_labels, k=7, weights=weights, index_metric=metric))
    model = KNeighborsClassifier(7, weights=weights, metric=SPELLED[metric], algorithm="brute")
    model.fit(digits.train_rows.astype(np.float64), digits.train_labels)
    queries = digits.test_rows[:400].astype(np.float64)
    shares = model.predict_proba(queries)
    firsts = np.sort(shares, axis=1)
    clear = without_ties(model, queries, 7) & (firsts[:, -1] - firsts[:, -2] > 1e-6)
    assert clear.sum() > 300
    came = answers(client, digits.test_rows[:400], 'output="predicted_label,probability,probabilities,classes"')
    np.testing.assert_array_equal(came["predicted_label"][clear], model.predict(queries)[clear])
    np.testing.assert_allclose(came["probabilities"][clear], shares[clear], atol=1e-6)
    np.testing.assert_allclose(came["probability"][clear], firsts[clear, -1], atol=1e-6)
    assert came["classes"][0].tolist() == list(range(10))


@pytest.mark.parametrize("metric", ["L2", "COSINE"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_a_regressors_means_are_scikit_learns(*, fit, serve, answers, diabetes, weights, metric):
    rows, labels = diabetes
    given = {"predictor_type": "regressor", "k": 9, "weights": weights, "index_metric": metric}
    client = serve(fit(rows[:300], labels[:300], **given))
    model = KNeighborsRegressor(9, weights=weights, metric=SPELLED[metric], algorithm="brute")
    model.fit(rows[:300].astype(np.float64), labels[:300])
    clear = without_ties(model, rows[300:].astype(np.float64), 9)
    assert clear.sum() > 100
    expected = model.predict(rows[300:].astype(np.float64))
    np.testing.assert_allclose(answers(client, rows[300:])["predicted_label"][clear], expected[clear], rtol=1e-5)


@pytest.mark.parametrize(
    ("aggregation", "aggregate"), [("median", np.median), ("geometric_mean", gmean), ("mean", np.mean)]
)
def test_a_regressor_aggregates_as_numpy_and_scipy_do(*, fit, serve, answers, diabetes, aggregation, aggregate):
    rows, labels = diabetes
    client = serve(fit(rows[:300], labels[:300], predictor_type="regressor", k=6, aggregation=aggregation))
    came = answers(client, rows[300:])
    np.testing.assert_allclose(came["predicted_label"], aggregate(came["labels"], axis=1), rtol=1e-6)


@pytest.fixture
def edit(tmp_path):
    """Copies a model with another manifest."""

    def edit_(folder, **changes):
        copy = tmp_path / "edited"
        shutil.copytree(folder, copy)
        (copy / "manifest.json").write_text(json.dumps(manifest(folder) | changes))
        return copy

    return edit_


@pytest.mark.parametrize(
    "changes",
    [
        {"k": 2},
        {"predictor_type": "regressor"},
        {"weights": "distance"},
        {"predictor_type": "regressor", "aggregation": "median", "k": 4},
        {"predictor_type": "regressor", "aggregation": "geometric_mean", "weights": "distance"},
        {"nprobe": 1},
    ],
    ids=str,
)
def test_a_model_edited_after_training_is_as_one_trained_so(*, fit, serve, answers, edit, digits, changes):
    given = {"k": 5, "index_type": "faiss.IVFFlat", "faiss_index_ivf_nlists": 20, "nprobe": 20}
    labels = digits.train_labels + 1
    edited = serve(edit(fit(digits.train_rows, labels, **given), **changes))
    trained = serve(fit(digits.train_rows, labels, **(given | changes)))
    came, expected = answers(edited, digits.test_rows), answers(trained, digits.test_rows)
    for name, values in expected.items():
        np.testing.assert_array_equal(came[name], values)
    unedited = answers(serve(fit(digits.train_rows, labels, **given)), digits.test_rows)
    assert any(not np.array_equal(unedited[name], values) for name, values in expected.items())


def test_weights_by_a_distance_that_is_none_are_refused_in_the_manifest_too(fit, serve, edit, digits):
    folder = fit(digits.train_rows, digits.train_labels, index_metric="INNER_PRODUCT")
    assert serve(edit(folder, weights="distance")).get("/ping").status_code == 503


@pytest.mark.parametrize("index_type", ["faiss.SQfp16", "faiss.SQ8", "faiss.IVFSQ8", "faiss.HNSW", "faiss.IVFRaBitQ"])
@pytest.mark.parametrize("reduction", [{}, {"dimension_reduction_type": "sign", "dimension_reduction_target": 20}])
def test_a_job_run_twice_leaves_the_same_bytes(fit, digits, index_type, reduction):
    given = {"index_type": index_type, "sample_size": 700} | reduction
    first, second = (fit(digits.train_rows, digits.train_labels, **given) for _ in range(2))
    assert {path.name for path in first.iterdir()} == {"index.faiss", "labels.npy", "ids.npy", "manifest.json"}
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_columns_are_padded_with_zeros_as_by_hand(fit, serve, answers, digits):
    given = {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": 12, "faiss_index_ivf_nlists": 10, "k": 5}
    padded = fit(digits.train_rows, digits.train_labels, **given)
    by_hand = fit(np.pad(digits.train_rows, ((0, 0), (0, 8))), digits.train_labels, **given)
    assert faiss.read_index(str(padded / "index.faiss")).d == 72
    assert (manifest(padded)["dimension"], manifest(by_hand)["dimension"]) == (64, 72)
    came = answers(serve(padded), digits.test_rows[:100])
    expected = answers(serve(by_hand), np.pad(digits.test_rows[:100], ((0, 0), (0, 8))))
    for name, values in expected.items():
        np.testing.assert_array_equal(came[name], values)


@pytest.mark.parametrize("kind", ["sign", "fjlt"])
def test_a_reduction_target_is_raised_to_the_next_multiple_of_m(fit, serve, answers, digits, kind):
    given = {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": 16, "dimension_reduction_type": kind}
    raised, exact = (
        fit(digits.train_rows, digits.train_labels, dimension_reduction_target=target, **given) for target in (33, 48)
    )
    assert manifest(raised)["reduction"] == {"type": kind, "target": 48, "seed": 0}
    assert manifest(raised)["hyperparameters"]["dimension_reduction_target"] == "33"
    assert (raised / "index.faiss").read_bytes() == (exact / "index.faiss").read_bytes()
    came, expected = answers(serve(raised), digits.test_rows), digits.test_labels
    assert np.mean(came["predicted_label"] == expected) > 0.85


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ({"index_type": "faiss.IVFPQ", "faiss_index_pq_m": 4}, ["256 rows", "255 were sampled", "sample_size"]),
        (
            {"index_type": "faiss.IVFFlat", "faiss_index_ivf_nlists": 300},
            ["faiss_index_ivf_nlists is 300", "255 rows were sampled", "sample_size"],
        ),
        (
            {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": 3, "dimension_reduction_type": "fjlt"}
            | {"dimension_reduction_target": 4},
            ["dimension_reduction_target 4", "raised to 6", "5 features", "Lower either"],
        ),
        ({"index_type": "faiss.SQfp16"}, ["up to 6.55e+04", "7e+04 came", "faiss.Flat"]),
        ({"predictor_type": "regressor", "aggregation": "geometric_mean"}, ["takes positive labels, 0 came"]),
        ({"k": 256}, ["k is 256", "255 rows", "Lower k or give more rows"]),
    ],
    ids=["codebooks", "lists", "target", "half precision", "geometric mean", "k"],
)
def test_what_the_data_do_not_allow_is_refused_with_the_numbers_to_change(run_job, recordio, hyperparameters, words):
    rows = np.random.default_rng(0).normal(size=(255, 5))
    rows[100, 2] = 70_000
    files = {"train/rows": recordio.rows(rows, np.arange(255))}
    job = run_job(files, content_type=RECORDIO, **hyperparameters)
    assert (job.status, job.has_model) == (1, False)
    assert job.failure.startswith("ClientError: ")
    assert all(word in job.failure for word in words), job.failure


def sparse_frames(recordio, rows, uids):
    """Records without the rows' zeros, labelled by their number, with a uid where there is one."""
    for number, (row, uid) in enumerate(zip(rows, uids, strict=True)):
        keys = np.flatnonzero(row).tolist()
        record = recordio.record(
            recordio.tensor(row[keys].tolist(), keys=keys, shape=[len(row)]), recordio.tensor([number])
        )
        yield recordio.frame(record + (recordio.field(3, uid.encode()) if uid else b""))


@pytest.mark.parametrize("reduction", [{}, {"dimension_reduction_type": "fjlt", "dimension_reduction_target": 9}])
@pytest.mark.parametrize("sample_size", [40, 25])
def test_rows_keep_their_names_through_sparse_files_and_samples(*, train, serve, recordio, sample_size, reduction):
    rows = np.eye(40, 10, dtype=np.float32) + np.eye(40, 10, -10) + 3 * np.eye(40, 10, -25)
    uids = [f"né-{number}" if number % 3 else "" for number in range(40)]
    files = {"train/rows": b"".join(sparse_frames(recordio, rows, uids))}
    options = {"k": 40 if sample_size == 40 else 25, "mini_batch_size": 4, "sample_size": sample_size} | reduction
    client = serve(train(files, content_type=RECORDIO, **options) / "model")

    def ask(accept):
        headers = {"Accept": f'{accept}; output="ids,labels"'}
        return client.post("/invocations", data=recordio.rows(np.ones((1, 10))), content_type=RECORDIO, headers=headers)

    (row,) = ask("application/json").get_json()["predictions"]
    assert len(set(row["ids"])) == sample_size
    assert row["ids"] == [uids[int(label)] or str(int(label)) for label in row["labels"]]
    assert all(uid.encode() in ask(RECORDIO).data for uid in row["ids"])


def test_sparse_rows_are_reduced_by_sign_where_the_sample_is_small(train, recordio):
    files = {"train/rows": b"".join(sparse_frames(recordio, np.eye(200, 10, dtype=np.float32), [""] * 200))}
    given = {"dimension_reduction_type": "sign", "dimension_reduction_target": 4, "sample_size": 5}
    folder = train(files, content_type=RECORDIO, mini_batch_size=2, **given) / "model"
    assert (manifest(folder)["rows"], manifest(folder)["rows_read"]) == (5, 200)
