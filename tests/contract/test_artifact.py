"""The model on disk: the same from the same inputs, and refused with advice where it is not whole."""

import hashlib
import json
import re
import shutil
import tarfile

import numpy as np
import pytest

INDEXES = {
    "faiss.Flat": {},
    "faiss.IVFFlat": {"faiss_index_ivf_nlists": 8},
    "faiss.IVFPQ": {"faiss_index_ivf_nlists": 8, "faiss_index_pq_m": 8},
}
FILES = ("index.faiss", "labels.npy", "ids.npy")
ADVICE = re.compile(r"\b(Train|Serve|Copy|put)\b")


@pytest.fixture(scope="module")
def train_digits(train, digits, csv):
    files = {
        "train/b/digits.csv": csv(digits.train_rows[500:], digits.train_labels[500:]),
        "train/a.csv": csv(digits.train_rows[:500], digits.train_labels[:500]),
    }
    return lambda **options: train(files, k=5, **options)


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("index_type", INDEXES)
@pytest.mark.parametrize("sample_size", [100000, 600])
def test_the_same_inputs_make_the_same_bytes(train_digits, index_type, sample_size):
    options = {"index_type": index_type, "sample_size": sample_size, "pack": True} | INDEXES[index_type]
    first, second = train_digits(**options), train_digits(**options)
    assert hashes(first / "model") == hashes(second / "model")
    assert set(hashes(first / "model")) == {"manifest.json", *FILES}
    assert (first / "output/model.tar.gz").read_bytes() == (second / "output/model.tar.gz").read_bytes()


def test_another_seed_makes_another_sample(train_digits):
    first, second = (train_digits(sample_size=600, seed=seed) / "model" for seed in (0, 1))
    assert hashes(first)["ids.npy"] != hashes(second)["ids.npy"]


@pytest.mark.parametrize("index_type", INDEXES)
def test_no_file_but_the_manifest_depends_on_the_mini_batch_size(train_digits, index_type):
    options = {"index_type": index_type, "sample_size": 600} | INDEXES[index_type]
    first, second = (hashes(train_digits(mini_batch_size=size, **options) / "model") for size in (64, 5000))
    assert {name: first[name] for name in FILES} == {name: second[name] for name in FILES}


def test_kept_rows_are_in_data_order_with_their_running_numbers(train_digits, digits):
    model = train_digits(sample_size=600) / "model"
    ids = np.load(model / "ids.npy", allow_pickle=False)
    assert (len(ids), ids[0] >= 0, ids[-1] < 1000) == (600, True, True)
    assert np.all(np.diff(ids) > 0)
    # The file a.csv, which holds the first 500 rows, comes before b/digits.csv.
    np.testing.assert_array_equal(np.load(model / "labels.npy", allow_pickle=False), digits.train_labels[ids])


def test_the_manifest_describes_the_model(train_digits):
    model = train_digits(sample_size=600, seed=3) / "model"
    manifest = json.loads((model / "manifest.json").read_bytes())
    promised = {"format_version": 1, "k": 5, "metric": "L2", "dimension": 64, "rows": 600, "rows_read": 1000}
    assert promised.items() <= manifest.items()
    assert manifest["hyperparameters"] == {
        "k": "5",
        "predictor_type": "classifier",
        "sample_size": "600",
        "seed": "3",
    }
    assert manifest["faiss_version"]
    for name, digest in hashes(model).items():
        if name != "manifest.json":
            assert manifest["files"][name] == {"bytes": (model / name).stat().st_size, "sha256": digest}


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained / "model", tmp_path / "model")


def edit(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def refuse(serve, folder, *expected):
    """Checks that a folder is not served, and that the reason says what is wrong and what to do."""
    response = serve(folder).get("/ping")
    assert response.status_code == 503
    reason = response.get_json()["error"]
    assert [part for part in expected if part not in reason] == [], reason
    assert ADVICE.search(reason), reason


def test_a_newer_format_is_refused(serve, copy):
    edit(copy, format_version=2)
    refuse(serve, copy, "format version 2", "newer", "reads up to 1", "Serve it with the image that trained it")


@pytest.mark.parametrize("at", [0, -1, 100])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused(serve, copy, name, at):
    flip(copy / name, at)
    refuse(serve, copy, name, "damaged", "SHA-256")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(serve, copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1])
    refuse(serve, copy, name, f"expected {len(content)} bytes, {len(content) - 1} came")


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_refused(serve, copy, name):
    (copy / name).unlink()
    refuse(serve, copy, name)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dimension": 63}, ["64 columns", "63"]),
        ({"dimension": 65}, ["64 columns", "65"]),
        ({"rows": 999}, ["1000 rows", "999"]),
        ({"k": 0}, ["k is 0"]),
        ({"k": "5"}, ["k is '5'"]),
        ({"metric": "L1"}, ["L1"]),
        ({"predictor_type": "ranker"}, ["ranker"]),
        ({"files": {}}, ["damaged"]),
        ({"format": "other"}, ["'other'", "'knn-container'"]),
        ({"format_version": "x"}, ["manifest.json"]),
    ],
    ids=str,
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(serve, copy, changes, expected):
    edit(copy, **changes)
    refuse(serve, copy, *expected)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": '])
def test_a_manifest_that_is_none_is_refused(serve, copy, text):
    (copy / "manifest.json").write_text(text)
    refuse(serve, copy, "manifest.json", "not a model's manifest")


def test_k_and_the_predictor_type_may_be_edited_after_training(serve, copy, digits, expect):
    edit(copy, k=3, predictor_type="regressor")
    queries = digits.test_rows[:20]
    labels = digits.train_labels.astype(np.float64)
    expected = expect(digits.train_rows, labels, queries, k=3, predictor="regressor")
    body = {"instances": [{"features": row} for row in queries.astype(np.float64).tolist()]}
    answers = serve(copy).post("/invocations", json=body).get_json()["predictions"]
    np.testing.assert_allclose([answer["predicted_label"] for answer in answers], expected.predicted, rtol=1e-12)


def test_the_packed_model_holds_the_files_of_the_model_and_nothing_of_its_time(train_digits):
    base = train_digits(pack=True)
    with tarfile.open(base / "output/model.tar.gz") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted(["manifest.json", *FILES])
    assert all(member.isreg() and (member.mtime, member.uid, member.uname) == (0, 0, "") for member in members)
