"""Data that cannot be trained on: the failure file names the file and the row, counted from 1."""

import json

import pytest

CSV, RECORDIO = "text/csv;label_size=1", "application/x-recordio-protobuf"
GOOD = b"1,0,0,0,0\n2,1,1,1,1\n3,2,2,2,2\n"


def check_refused(outcome, expected, label="ClientError"):
    assert (outcome.status, outcome.has_model) == (1, False)
    assert outcome.failure.startswith(f"{label}: ")
    assert len(outcome.failure) < 1024
    assert [part for part in expected if part not in outcome.failure] == [], outcome.failure


CSV_FILES = {
    "text where a number belongs": (b"1,0,0,0,0\n2,1,one,1,1\n", ["row 2", "column 3", "'one'"]),
    "text where a label belongs": (b"1,0,0,0,0\ncat,1,1,1,1\n", ["row 2", "column 1", "'cat'"]),
    "a header": (b"y,a,b,c,d\n1,0,0,0,0\n", ["row 1", "'y'", "header"]),
    "too many columns": (b"1,0,0,0,0\n\n2,1,1,1,1,1\n", ["row 3", "expected 4 features", "5 came"]),
    "too few columns": (b"1,0,0,0,0\n2,1,1,1\n", ["row 2", "expected 4 features", "3 came"]),
    "a label alone": (b"1\n2\n", ["row 1", "at least one feature"]),
    "an empty cell": (b"1,0,0,0,0\n2,1,,1,1\n", ["row 2", "column 3"]),
    "NaN": (b"1,0,0,0,0\n2,1,nan,1,1\n", ["row 2", "feature 2 is nan"]),
    "inf": (b"1,0,0,0,0\n2,1,1,1,-inf\n", ["row 2", "feature 4 is -inf"]),
    "outside float32": (b"1,0,0,0,0\n2,1,1,1,1e39\n", ["row 2", "feature 4 is 1e+39"]),
    "a label that is NaN": (b"1,0,0,0,0\nnan,1,1,1,1\n", ["row 2", "label is nan"]),
    "a label that is inf": (b"1,0,0,0,0\ninf,1,1,1,1\n", ["row 2", "label is inf"]),
    "not UTF-8": (b"1,0,0,0,0\n2,1,\xff,1,1\n", ["row 2", "utf-8"]),
}


@pytest.mark.parametrize("case", CSV_FILES)
@pytest.mark.parametrize("mini_batch_size", [1, 5000])
def test_a_csv_row_that_cannot_be_read_is_named(run_job, case, mini_batch_size):
    content, expected = CSV_FILES[case]
    files = {"train/a.csv": GOOD, "train/part/b.csv": content}
    outcome = run_job(files, feature_dim=4, mini_batch_size=mini_batch_size)
    check_refused(outcome, ["'train'", "'part/b.csv'", *expected])


RECORDIO_FILES = {
    "a truncated payload": (lambda r: r.rows([[1, 2]] * 2, [1, 2])[:-6], ["row 2", "inside a record"]),
    "a truncated header": (lambda r: r.rows([[1, 2]], [1]) + b"\x0a\x23\xd7", ["row 2", "3 of 8 bytes"]),
    "another magic": (lambda r: r.rows([[1, 2]], [1]) + b"oops" + bytes(8), ["row 2", "0a23d7ce", b"oops".hex()]),
    "CSV": (lambda r: b"1,2,3\n4,5,6\n", ["row 1", "content type"]),
    "no last part": (lambda r: r.rows([[1, 2]], [1]) + r.frame(b"", 1), ["row 2", "last part"]),
    "a last part first": (lambda r: r.frame(b"", 3), ["row 1", "out of order"]),
    "no record": (lambda r: r.rows([[1, 2]], [1]) + r.frame(b"\xff\xff"), ["row 2", "aialgs.data.Record"]),
    "another width": (lambda r: r.rows([[1, 2]], [1]) + r.rows([[1, 2, 3]], [1]), ["row 2", "expected 2", "3 came"]),
    "no label": (lambda r: r.rows([[1, 2]], [1]) + r.rows([[1, 2]]), ["row 2", "label"]),
    "two labels": (
        lambda r: r.frame(r.record(r.tensor([1, 2]), r.tensor([1, 2]))),
        ["row 1", "expected one label, 2 came"],
    ),
    "no features": (lambda r: r.frame(r.record(None, r.tensor([1]))), ["row 1", "feature"]),
    "NaN": (lambda r: r.rows([[1, 2], [float("nan"), 2]], [1, 2]), ["row 2", "feature 1 is nan"]),
    "inf": (lambda r: r.rows([[1, 2], [1, float("-inf")]], [1, 2], kind="float64"), ["row 2", "feature 2 is -inf"]),
    "a label that is NaN": (lambda r: r.rows([[1, 2]] * 2, [1, float("nan")]), ["row 2", "label is nan"]),
    "bytes": (
        lambda r: r.frame(r.record(r.field(9, r.field(1, b"x")), r.tensor([1]))),
        ["row 1", "numbers", "bytes"],
    ),
}


@pytest.mark.parametrize("case", RECORDIO_FILES)
def test_a_record_that_cannot_be_read_is_named(run_job, recordio, case):
    make, expected = RECORDIO_FILES[case]
    files = {"train/a.rec": recordio.rows([[1, 2]] * 3, [1, 2, 3]), "train/b.rec": make(recordio)}
    check_refused(run_job(files, content_type=RECORDIO), ["'train'", "'b.rec'", *expected])


TOO_MUCH = [
    ({"k": 4}, ["k is 4", "3 rows"]),
    ({"k": 3, "sample_size": 2}, ["k is 3", "2 rows", "sample_size 2"]),
    ({"index_type": "faiss.IVFFlat", "faiss_index_ivf_nlists": 4}, ["faiss_index_ivf_nlists is 4", "3 rows"]),
    ({"index_type": "faiss.IVFPQ", "faiss_index_ivf_nlists": 1, "faiss_index_pq_m": 2}, ["256 rows", "3 were sampled"]),
    ({"feature_dim": 5}, ["'rows.csv'", "row 1", "expected 5 features", "4 came"]),
]


@pytest.mark.parametrize(("hyperparameters", "expected"), TOO_MUCH, ids=str)
def test_hyperparameters_that_do_not_fit_the_data_are_refused_with_both_numbers(run_job, hyperparameters, expected):
    check_refused(run_job({"train/rows.csv": GOOD}, **hyperparameters), expected)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ["Missing required channel: train", "none"]),
        ({"test/rows.csv": GOOD}, ["Missing required channel: train", "test"]),
        ({"train/.hidden": GOOD, "train/_SUCCESS": b""}, ["'train'", "no files"]),
        ({"train/empty.csv": b""}, ["'train'", "not one row", "empty.csv"]),
        ({"train/a.csv": b"\n\r\n", "train/b.csv": b""}, ["'train'", "2 files", "not one row", "a.csv", "b.csv"]),
    ],
    ids=["no channel", "another channel", "hidden files", "an empty file", "blank files"],
)
def test_a_channel_without_rows_is_refused(run_job, files, expected):
    check_refused(run_job(files), expected)


def test_a_channel_whose_folder_is_empty_is_refused(run_job, write_job):
    base = write_job({"train/rows.csv": GOOD})
    (base / "input" / "data" / "train" / "rows.csv").unlink()
    check_refused(run_job({}, base=base), ["'train'", "no files", "is empty"])


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", ["'train'", "application/json", "came", "text/csv"]),
        ("text/csv;label_size=0", ["'train'", "label_size=0 came", "label_size=1"]),
        ("text/csv;label_size=2", ["'train'", "label_size=2 came", "label_size=1"]),
    ],
)
def test_a_content_type_that_cannot_be_trained_on_is_refused(run_job, content_type, expected):
    check_refused(run_job({"train/rows.csv": GOOD}, content_type=content_type), expected)


def test_a_failure_leaves_nothing_of_an_earlier_success(run_job, write_job):
    base = write_job({"train/rows.csv": GOOD})
    assert run_job({}, base=base).has_model
    (base / "input" / "data" / "train" / "rows.csv").write_bytes(b"x\n")
    check_refused(run_job({}, base=base), ["'rows.csv'"])
    assert list((base / "model").iterdir()) == []


def test_a_success_leaves_nothing_of_an_earlier_failure(run_job, write_job):
    base = write_job({"train/rows.csv": b"x\n"})
    check_refused(run_job({}, base=base), ["'rows.csv'"])
    (base / "input" / "data" / "train" / "rows.csv").write_bytes(GOOD)
    outcome = run_job({}, base=base)
    assert (outcome.status, outcome.failure, outcome.has_model) == (0, "", True)


def test_an_error_in_the_test_channel_is_told_and_the_model_stays(run_job):
    outcome = run_job({"train/rows.csv": GOOD, "test/rows.csv": b"1,2\n"})
    assert (outcome.status, outcome.has_model) == (1, True)
    assert "'test'" in outcome.failure
    assert "expected 4 features, 1 came" in outcome.failure


def test_a_config_that_names_no_content_type_means_recordio(run_job, write_job, recordio):
    base = write_job({"train/rows": recordio.rows([[0], [1], [2]], [1, 2, 3])})
    (base / "input" / "config" / "inputdataconfig.json").write_text(json.dumps({"train": {}}))
    assert run_job({}, base=base).status == 0
