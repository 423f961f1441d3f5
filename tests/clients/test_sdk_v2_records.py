"""The recordio-protobuf of SageMaker's Python SDK v2: its writers in training, its predictor for the built-in k-NN."""

from collections import Counter

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RECORDIO = "application/x-recordio-protobuf"
K = 3
WIDTH = 40
EMPTY = 5  # a row of zeros, in training and in requests


@pytest.fixture(scope="module")
def arrays():
    """Mostly zeros, one row nothing but zeros; labels that say which row it is."""
    random = np.random.default_rng(1)
    rows = np.where(random.random((60, WIDTH)) < 0.2, random.normal(size=(60, WIDTH)), 0).astype(np.float32)
    rows[EMPTY] = 0
    labels = np.arange(60) % 4
    return {
        "float32": rows,
        "float64": rows.astype(np.float64),
        "int64": np.round(rows * 10).astype(np.int64),
        "labels32": labels.astype(np.float32),
        "labels64": labels.astype(np.float64),
        "labels_int": labels,
    }


@pytest.fixture(scope="module")
def queries():
    random = np.random.default_rng(2)
    rows = np.where(random.random((20, WIDTH)) < 0.3, random.normal(size=(20, WIDTH)), 0).astype(np.float32)
    rows[EMPTY] = 0
    return rows


FILES = {
    "dense, float32": ("float32", "labels32", False),
    "dense, float64, labels float32": ("float64", "labels32", False),
    "dense, float64, labels int64": ("float64", "labels_int", False),
    "dense, int64": ("int64", "labels_int", False),
    "sparse, float32": ("float32", "labels32", True),
    "sparse, float64, labels float64": ("float64", "labels64", True),
    "sparse, int64": ("int64", "labels_int", True),
}


@pytest.fixture(scope="module")
def written(write_records, arrays):
    return write_records(arrays, FILES)


@pytest.fixture(scope="module")
def trained(train, write_job, written):
    """Trains on files and gives the job's folder."""

    def trained_(*names):
        files = {f"train/{number}.pbr": written[name] for number, name in enumerate(names)}
        # As the SDK's own estimator for the built-in algorithm, it names no content type.
        base = write_job(files, content_type=None, k=K, feature_dim=WIDTH)
        train(base)
        return base

    return trained_


@pytest.fixture(scope="module")
def ask(sdk_v2, serving, queries, tmp_path_factory):
    """Asks for the model in a job's folder with the SDK's predictor."""
    path = tmp_path_factory.mktemp("queries") / "queries.npy"
    np.save(path, queries)

    def ask_(base):
        with serving(base) as port:
            return sdk_v2.run("sdk_v2_records.py", port=port, queries=path).result

    return ask_


def model(arrays, name):
    return KNeighborsClassifier(K, algorithm="brute").fit(arrays[name].astype(np.float64), arrays["labels64"])


@pytest.mark.parametrize("name", FILES)
def test_trains_on_what_the_sdk_writes(trained, ask, arrays, queries, assert_neighbours, name):
    answers = ask(trained(name))["answers"]
    expected = model(arrays, FILES[name][0])
    assert_neighbours(
        [{column: unpacked(column, values) for column, values in row.items()} for row in answers["verbose"]],
        expected,
        arrays["labels64"],
        queries.astype(np.float64),
    )
    for request in ("float32", "float64", "sparse"):
        assert answers[request] == [{"predicted_label": [label]} for label in expected.predict(queries)]


def unpacked(column, values):
    return values[0] if column == "predicted_label" else values


def test_trains_on_dense_and_sparse_files_together(trained, ask, arrays, queries):
    rows = np.concatenate([arrays["float32"], arrays["float32"]]).astype(np.float64)
    labels = np.concatenate([arrays["labels64"], arrays["labels64"]])
    expected = KNeighborsClassifier(K, algorithm="brute").fit(rows, labels).predict(queries.astype(np.float64))
    found = ask(trained("dense, float32", "sparse, float32"))["answers"]["float32"]
    assert found == [{"predicted_label": [label]} for label in expected]


@pytest.fixture(scope="module")
def asked(trained, ask):
    return ask(trained("dense, float32"))


def test_the_predictor_sends_chunks(asked):
    headers = asked["headers"]
    assert len(headers) == 5
    assert [it.get("transfer-encoding") for it in headers] == ["chunked"] * 4 + [None]
    assert all("content-length" not in it for it in headers[:4])
    assert {it["content-type"] for it in headers} == {RECORDIO}
    assert Counter(it["accept"] for it in headers) == {RECORDIO: 4, f"{RECORDIO}; verbose=true": 1}


def test_answers_one_row(asked):
    assert asked["answers"]["one row"] == asked["answers"]["float32"][:1]


def test_a_row_of_zeros_was_among_the_sparse_ones(asked, queries):
    assert asked["stored"] == np.count_nonzero(queries, axis=1).tolist()
    assert asked["stored"][EMPTY] == 0
