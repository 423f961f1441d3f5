"""Models of SageMaker's built-in k-NN, as its documentation describes them, answered as numpy answers them."""

import json
import sys

import faiss
import numpy as np
import pytest

from knn_container import official
from knn_container.errors import ArtifactError
from knn_container.serving.store import load_model

K = 3
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(200, 6)).astype(np.float32)
LABELS = RNG.integers(0, 4, 200).astype(np.float32)
QUERIES = RNG.normal(size=(30, 6)).astype(np.float32)
METADATA = {
    "k": K,
    "predictor_type": "classifier",
    "dimension_reduction": {"type": None, "seed": 0, "target_dim": 6, "input_dim": 6},
    "normalize": False,
    "version": "1.0",
}
# What AWS's page prints: Python's booleans, quotes of one kind or the other.
SPELLINGS = {"json": json.dumps, "python": repr, "python, double quotes": lambda it: repr(it).replace("'", '"')}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def flat(rows, metric):
    index = faiss.IndexFlatL2(6) if metric == "L2" else faiss.IndexFlatIP(6)
    index.add(unit(rows) if metric == "COSINE" else rows)
    return index


def inverted(rows, metric):
    quantizer = faiss.IndexFlatL2(6) if metric == "L2" else faiss.IndexFlatIP(6)
    kind = faiss.METRIC_L2 if metric == "L2" else faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFFlat(quantizer, 6, 5, kind)  # of 5 lists, the built-in looks into 5
    held = unit(rows) if metric == "COSINE" else rows
    index.train(held)
    index.add(held)
    return index


@pytest.fixture
def model(tmp_path):
    """Writes the three files and gives their folder; what is None is left out."""

    def write(index, labels=LABELS, metadata=None, text=None):
        for name, content in (
            ("model_algo-1", bytes(faiss.serialize_index(index)) if isinstance(index, faiss.Index) else index),
            ("model_algo-1.labels", None if labels is None else labels.astype("<f4").tobytes()),
            ("model_algo-1.json", text if text is not None else json.dumps(METADATA | (metadata or {})).encode()),
        ):
            if content is not None:
                (tmp_path / name).write_bytes(content)
        return tmp_path

    return write


def expected(metric):
    if metric == "L2":
        values = np.square(ROWS[np.newaxis] - QUERIES[:, np.newaxis].astype(np.float64)).sum(axis=2)
    else:
        values = QUERIES.astype(np.float64) @ ROWS.T
    if metric == "COSINE":
        values = unit(QUERIES.astype(np.float64)) @ unit(ROWS.astype(np.float64)).T
    nearest = np.argsort(values if metric == "L2" else -values, axis=1, kind="stable")[:, :K]
    return np.take_along_axis(values, nearest, axis=1), LABELS[nearest]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("metric", ["L2", "INNER_PRODUCT", "COSINE"])
@pytest.mark.parametrize("make", [flat, inverted])
def test_answers_are_numpys(model, make, metric, spelling):
    metadata = METADATA | {"normalize": metric == "COSINE"}
    loaded, what = load_model(model(make(ROWS, metric), text=SPELLINGS[spelling](metadata).encode()))
    assert what == "a model of SageMaker's built-in k-NN"
    assert (loaded.options.k, loaded.options.metric, loaded.options.dimension) == (K, metric, 6)
    answer = loaded.predict(QUERIES)
    values, labels = expected(metric)
    np.testing.assert_allclose(answer.neighbours.values, values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(loaded.labels[answer.neighbours.rows], labels)
    votes = [np.unique(row, return_counts=True) for row in labels]
    np.testing.assert_array_equal(answer.predicted, [found[np.argmax(counts)] for found, counts in votes])


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_k_and_the_predictor_type_are_those_of_the_edited_document(model, spelling):
    metadata = METADATA | {"k": 1, "predictor_type": "regressor"}
    answer = official.load(model(flat(ROWS, "L2"), text=SPELLINGS[spelling](metadata).encode())).predict(QUERIES)
    np.testing.assert_array_equal(answer.predicted, expected("L2")[1][:, 0])


@pytest.mark.parametrize("reduction", [None, {}, {"type": None}, {"type": ""}, {"type": "none", "seed": 1}])
def test_a_model_without_a_reduction_is_read_however_that_is_said(model, reduction):
    loaded = official.load(model(flat(ROWS, "L2"), metadata={"dimension_reduction": reduction}))
    assert loaded.options.reduction is None


@pytest.mark.parametrize("kind", ["sign", "fjlt"])
def test_a_reduced_model_is_refused_with_the_reason(model, kind):
    folder = model(flat(ROWS, "L2"), metadata={"dimension_reduction": {"type": kind, "seed": 3, "target_dim": 6}})
    with pytest.raises(ArtifactError, match=f"reduced in dimension by '{kind}'") as error:
        official.load(folder)
    assert "only the seed" in str(error.value)
    assert "Train the model again" in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"no index", b"IxF2" + bytes(20), bytes(faiss.serialize_index(flat(ROWS, "L2")))[:-50]]
)
def test_an_index_that_faiss_cannot_read_is_refused_with_its_version(model, content):
    with pytest.raises(ArtifactError, match=f"FAISS {faiss.__version__} cannot read model_algo-1 as an index"):
        official.load(model(content))


@pytest.mark.parametrize("count", [0, 199, 201])
def test_another_number_of_labels_than_rows_is_refused_with_both(model, count):
    with pytest.raises(ArtifactError, match=f"has {count} float32 labels, the index 200 rows"):
        official.load(model(flat(ROWS, "L2"), labels=np.resize(LABELS, count)))


@pytest.mark.parametrize("suffix", ["labels", "json"])
def test_a_missing_file_is_named(model, suffix):
    folder = model(flat(ROWS, "L2"))
    (folder / f"model_algo-1.{suffix}").unlink()
    with pytest.raises(ArtifactError, match=rf"model_algo-1\.{suffix} cannot be read"):
        official.load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 0}, "k from 1"),
        ({"k": "3"}, "k from 1"),
        ({"k": True}, "k from 1"),
        ({"k": None}, "k from 1"),
        ({"predictor_type": "ranker"}, "'ranker' came"),
        ({"predictor_type": None}, "classifier or regressor"),
    ],
)
def test_metadata_that_cannot_be_meant_are_refused(model, change, words):
    with pytest.raises(ArtifactError, match=words):
        official.load(model(flat(ROWS, "L2"), metadata=change))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[1, 2]",
        b"{'k': 3",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"{'a':" * 5000,
        b"(" * 300 + b")" * 300,
        b"-" * 100_000 + b"1",
        b"1" * 5000,
        b"{'k': 9 ** 9 ** 9}",
        b"__import__('sys').exit(3)",
        b"{'k': [setattr(__import__('sys'), 'hostile', 1)]}",
        b"{k: 3 for k in range(10)}",
        b"f\"{__import__('sys').exit(3)}\"",
        b"'a' * 10**10",
        b"\0",
        b"NaN",
    ],
    ids=range(17),
)
def test_hostile_metadata_are_refused_and_run_nothing(model, text):
    with pytest.raises(ArtifactError, match=r"model_algo-1\.json"):
        official.load(model(flat(ROWS, "L2"), text=text))
    assert not hasattr(sys, "hostile")


@pytest.mark.parametrize(
    "change",
    [
        # Served, its answers would be wrong without a word.
        pytest.param({"dimension_reduction": "sign"}, id="a reduction in a word"),
        pytest.param({"normalize": True}, id="unit rows under L2"),
    ],
)
def test_what_the_documentation_does_not_describe_is_refused(model, change):
    with pytest.raises(ArtifactError):
        official.load(model(flat(ROWS, "L2"), metadata=change))


def test_a_model_of_ours_outweighs_one_of_the_built_in_beside_it(model):
    folder = model(flat(ROWS, "L2"))
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"manifest\.json is not a model's manifest"):
        load_model(folder)
