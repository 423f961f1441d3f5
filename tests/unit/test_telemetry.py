"""The lines that programs read, against the shapes in the built-in algorithm's own log."""

import json
import logging
import re
import time

import pytest

from knn_container.training import run, telemetry
from knn_container.training.job import Folders
from knn_container.training.telemetry import Every, Telemetry

NUMBER = r"-?\d+(\.\d+)?([eE][-+]?\d+)?"


@pytest.fixture
def metrics(capsys):
    """What the `#metrics` line printed last holds; it begins in the first column."""

    def metrics_():
        line = capsys.readouterr().out.splitlines()[-1]
        assert line.startswith("#metrics {")
        return json.loads(line.removeprefix("#metrics "))

    return metrics_


def test_metrics_are_one_json_document_on_one_line(capsys, metrics):
    before = time.time()
    Telemetry("algo-1-x7").metrics({"finalize.time": 12.5, "epochs": 1})
    document = metrics()
    assert list(document) == ["StartTime", "EndTime", "Dimensions", "Metrics"]
    assert before <= document["StartTime"] <= document["EndTime"] <= time.time()
    assert document["Dimensions"] == {"Algorithm": "AWS/KNN", "Host": "algo-1-x7", "Operation": "training"}
    assert document["Metrics"] == {
        "finalize.time": {"sum": 12.5, "count": 1, "min": 12.5, "max": 12.5},
        "epochs": {"sum": 1, "count": 1, "min": 1, "max": 1},
    }


@pytest.mark.parametrize("meta", ["training_data_iter", "test_data_iter"])
def test_the_records_of_a_channel_are_under_its_meta(metrics, meta):
    Telemetry("algo-1").records(meta, 522_910, 105)
    document = metrics()
    assert document["Dimensions"]["Meta"] == meta
    assert {name: value["sum"] for name, value in document["Metrics"].items()} == {
        "Total Records Seen": 522_910,
        "Total Batches Seen": 105,
        "Max Records Seen Between Resets": 522_910,
        "Max Batches Seen Between Resets": 105,
        "Reset Count": 1,
        "Number of Records Since Last Reset": 522_910,
        "Number of Batches Since Last Reset": 105,
    }


def test_the_whole_time_is_in_milliseconds(metrics):
    job = Telemetry("algo-1")
    time.sleep(0.05)
    job.end()
    document = metrics()
    total = document["Metrics"]["totaltime"]["sum"]
    assert 50 <= total < 5000
    assert total == pytest.approx(1000 * (document["EndTime"] - document["StartTime"]), abs=5)


@pytest.mark.parametrize(
    ("write", "shape"),
    [
        (
            lambda job: job.progress(100.0),
            r"#progress_metric: host=algo-1, completed 100\.0 % of epochs",
        ),
        (
            lambda job: job.throughput(522_910, 0.9748),
            rf"#throughput_metric: host=algo-1, train throughput=(?P<value>{NUMBER}) records/second",
        ),
    ],
)
def test_progress_and_throughput_have_the_built_ins_shape(caplog, write, shape):
    caplog.set_level(logging.INFO)
    write(Telemetry("algo-1"))
    (message,) = caplog.messages
    found = re.fullmatch(shape, message)
    assert found
    if "value" in found.groupdict():
        assert float(found["value"]) == pytest.approx(536_428, rel=1e-5)


def test_scores_come_first_as_a_pair_and_then_for_the_tuner(caplog):
    caplog.set_level(logging.INFO)
    Telemetry("algo-2").scores({"accuracy": 0.9221369316030429, "mse": 0.013333333333333334})
    assert caplog.messages == [
        "#test_score (algo-2) : ('accuracy', 0.9221369316030429)",
        "#test_score (algo-2) : ('mse', 0.013333333333333334)",
        "#quality_metric: host=algo-2, test accuracy <score>=0.9221369316030429",
        "#quality_metric: host=algo-2, test mse <loss>=0.013333333333333334",
    ]


def test_work_is_told_every_few_seconds(monkeypatch):
    now = 100.0
    monkeypatch.setattr(telemetry.time, "perf_counter", lambda: now)
    tick = Every(5)
    told = []
    for now in (101, 104.9, 105, 106, 109.9, 110.5, 115.4, 115.5, 200, 204, 206):
        if tick.due():
            told.append(now)
    assert told == [105, 110.5, 115.5, 200, 206]
    assert tick.seconds() == 106


@pytest.fixture
def train_job(write_job):
    """A job of five rows in batches of two, tested on two rows."""

    def train():
        files = {"train/rows.csv": b"1,0\n2,1\n1,2\n2,3\n1,4\n", "test/rows.csv": b"1,0\n2,1\n"}
        run.train(Folders(write_job(files, k=1, mini_batch_size=2)), pack=False)

    return train


def test_a_job_prints_the_metrics_of_each_of_its_parts(train_job, capsys):
    train_job()
    lines = [line for line in capsys.readouterr().out.splitlines() if "#metrics" in line]
    assert all(line.startswith("#metrics {") for line in lines)
    documents = [json.loads(line.removeprefix("#metrics ")) for line in lines]
    names = [(document["Dimensions"].get("Meta"), next(iter(document["Metrics"]))) for document in documents]
    assert names == [
        ("init_train_data_iter", "Total Records Seen"),
        ("training_data_iter", "Total Records Seen"),
        (None, "initialize.time"),
        ("test_data_iter", "Total Records Seen"),
        (None, "setuptime"),
    ]
    parts = documents[2]["Metrics"]
    assert list(parts) == ["initialize.time", "update.time", "finalize.time", "model.serialize.time", "epochs"]
    ends = [document["EndTime"] for document in documents]
    assert [document["StartTime"] for document in documents[1:4]] == ends[:3]
    total = documents[4]["Metrics"]["totaltime"]["sum"]
    assert sum(part["sum"] for name, part in parts.items() if name != "epochs") <= total
    assert documents[4]["Metrics"]["setuptime"] == parts["initialize.time"]
    channels = [document["Metrics"] for document in documents if "Meta" in document["Dimensions"]]
    assert [channel["Total Records Seen"]["sum"] for channel in channels] == [2, 5, 2]
    assert [channel["Total Batches Seen"]["sum"] for channel in channels] == [1, 3, 1]
