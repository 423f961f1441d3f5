import hashlib
import json
import resource
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np
import pytest

from knn_container import artifact, index
from knn_container.artifact import Manifest
from knn_container.errors import ArtifactError
from knn_container.index import IndexSpec
from knn_container.metric import Metric
from knn_container.model import ModelOptions
from knn_container.voting import Aggregation, Weights

ROWS = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
LABELS = np.arange(300, dtype=np.int32) + 2**24
IDS = np.arange(300) * 2
OPTIONS = ModelOptions(4, 3, "classifier", Metric.L2, 5, Weights.UNIFORM, Aggregation.MEAN, None)
FILES = {"index.faiss", "labels.npy", "ids.npy"}


@pytest.fixture
def save(blocks_of):
    def save(folder: Path, labels=LABELS, index_type: str = "faiss.Flat", rows: int = 300) -> Manifest:
        built = index.build(IndexSpec(index_type, Metric.L2, 3, 2), 300, 4, blocks_of(ROWS))
        manifest = Manifest(
            options=OPTIONS,
            index_type=index_type,
            rows=rows,
            zero_rows=[],
            rows_read=1000,
            stopped_early=False,
            label_type=str(labels.dtype),
            hyperparameters={"k": "3"},
        )
        artifact.save(folder, manifest, built, labels, IDS)
        return manifest

    return save


@pytest.fixture
def saved(save, tmp_path) -> Path:
    save(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, **changes):
    document = json.loads((folder / "manifest.json").read_bytes())
    for name, value in changes.items():
        document[name] = value
        if value is None:
            del document[name]
    (folder / "manifest.json").write_text(json.dumps(document))


def refusal(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        artifact.load(folder)
    return str(caught.value)


@contextmanager
def files_no_larger_than(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("index_type", ["faiss.Flat", "faiss.IVFFlat", "faiss.IVFPQ"])
@pytest.mark.parametrize("dtype", ["int32", "float32", "float64", "int64"])
def test_what_is_saved_is_what_is_loaded(save, tmp_path, index_type, dtype):
    labels = LABELS.astype(dtype)
    manifest = save(tmp_path, labels, index_type)
    model, _ = artifact.load(tmp_path)
    assert artifact.read_manifest(tmp_path) == manifest
    assert model.options == OPTIONS
    assert (model.labels.dtype, model.ids.dtype) == (labels.dtype, np.int64)
    np.testing.assert_array_equal(model.labels, labels)
    np.testing.assert_array_equal(model.ids, IDS)
    # Each row is its own nearest neighbour but where codes merge them.
    found = model.predict(ROWS[:50], k=1).neighbours.rows[:, 0]
    assert (found == np.arange(50)).mean() > (0.5 if index_type == "faiss.IVFPQ" else 0.99)


def test_the_manifest_describes_the_files_for_other_tools(saved):
    document = json.loads((saved / "manifest.json").read_bytes())
    assert {path.name for path in saved.iterdir()} == FILES | {"manifest.json"}
    assert (document["format"], document["format_version"]) == ("knn-container", 1)
    assert document["faiss_version"] == faiss.__version__
    assert (document["k"], document["metric"], document["dimension"], document["rows"]) == (3, "L2", 4, 300)
    assert document["hyperparameters"] == {"k": "3"}
    for name in FILES:
        content = (saved / name).read_bytes()
        assert document["files"][name] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_faiss_and_numpy_read_the_files_alone(saved):
    np.testing.assert_array_equal(faiss.read_index(str(saved / "index.faiss")).reconstruct_n(0, 300), ROWS)
    np.testing.assert_array_equal(np.load(saved / "labels.npy", allow_pickle=False), LABELS)
    np.testing.assert_array_equal(np.load(saved / "ids.npy", allow_pickle=False), IDS)


def test_the_same_model_has_the_same_bytes(save, tmp_path):
    for name in ("a", "b"):
        save(tmp_path / name, index_type="faiss.IVFPQ")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_k_and_the_predictor_type_may_be_edited(saved):
    edit(saved, k=1, predictor_type="regressor")
    model, _ = artifact.load(saved)
    assert (model.options.k, model.options.predictor_type) == (1, "regressor")
    assert model.predict(ROWS[7:8]).predicted.tolist() == [2**24 + 7]


@pytest.mark.parametrize("limit", [0, 100, 4800])
def test_a_full_disk_leaves_no_manifest_and_no_half_model(save, tmp_path, limit):
    save(tmp_path)  # an older model; 300 rows of four float32 numbers take more than 4,800 bytes
    with files_no_larger_than(limit), pytest.raises(OSError, match="File too large"):
        save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_removing_a_model_leaves_other_files(saved):
    (saved / "notes.txt").write_text("kept")
    artifact.remove(saved)
    assert [path.name for path in saved.iterdir()] == ["notes.txt"]
    artifact.remove(saved)


def test_no_model_is_said_to_be_missing(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert "does not exist" in refusal(folder)


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_file_is_needed_whole(saved, name):
    content = (saved / name).read_bytes()
    for damaged, words in (
        (content[:-1], f"expected {len(content)} bytes, {len(content) - 1} came"),
        (content + b"\0", f"expected {len(content)} bytes, {len(content) + 1} came"),
        (content[:-1] + bytes([content[-1] ^ 1]), "SHA-256"),
    ):
        (saved / name).write_bytes(damaged)
        message = refusal(saved)
        assert name in message
        assert words in message
        assert "Train the model again" in message
    (saved / name).unlink()
    assert f"{name} is missing" in refusal(saved)


@pytest.mark.parametrize("version", [2, 100])
def test_a_newer_format_is_refused_with_what_to_do(saved, version):
    edit(saved, format_version=version)
    message = refusal(saved)
    assert f"format version {version}" in message
    assert "newer" in message


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff", b"{}", b'{"format": "other", "format_version": 1}']
    + [b'{"format": "knn-container", "format_version": %s}' % version for version in (b"null", b'"x"', b"[]")],
)
def test_a_manifest_that_is_none_is_refused(saved, content):
    (saved / "manifest.json").write_bytes(content)
    assert "manifest" in refusal(saved)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("k", [0, -1, 1.5, "3", True, None]),
        ("nprobe", [0, "5", None]),
        ("dimension", [0, 4.0, None]),
        ("rows", [0, -1, None]),
        ("predictor_type", ["Classifier", 1, None]),
        ("metric", ["l2", 1, None]),
        ("files", [{}, [], None, {"index.faiss": 1}]),
    ],
)
def test_a_manifest_with_a_field_that_cannot_be_is_refused(saved, name, values):
    whole = (saved / "manifest.json").read_bytes()
    for value in values:
        edit(saved, **{name: value})
        assert "manifest.json" in refusal(saved)
        (saved / "manifest.json").write_bytes(whole)


@pytest.mark.parametrize(("name", "value"), [("dimension", 5), ("rows", 299), ("rows", 301)])
def test_a_manifest_that_promises_another_index_is_refused(saved, name, value):
    edit(saved, **{name: value})
    message = refusal(saved)
    assert str(value) in message
    assert "manifest.json" in message


def test_an_index_that_faiss_cannot_read_is_refused(saved):
    content = b"IxXX" + bytes(100)
    (saved / "index.faiss").write_bytes(content)
    files = json.loads((saved / "manifest.json").read_bytes())["files"]
    files["index.faiss"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(saved, files=files)
    message = refusal(saved)
    assert "index.faiss" in message
    assert faiss.__version__ in message


def test_labels_that_are_pickled_are_not_read(saved):
    np.save(saved / "labels.npy", np.array([{}] * 300, object), allow_pickle=True)
    content = (saved / "labels.npy").read_bytes()
    files = json.loads((saved / "manifest.json").read_bytes())["files"]
    files["labels.npy"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(saved, files=files)
    with pytest.raises(ValueError, match=r"(?i)object|pickle|labels\.npy"):
        artifact.load(saved)
