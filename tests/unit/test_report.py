import errno
import json
import logging
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from knn_container import hyperparameters
from knn_container.metric import Metric
from knn_container.model import ModelOptions
from knn_container.search import Timing
from knn_container.search.exact import ExactSearch
from knn_container.training import picture, report, run
from knn_container.training.building import Built
from knn_container.training.evaluation import Evaluation
from knn_container.training.job import Folders
from knn_container.voting import Aggregation, Weights, vote_for

FIELDS = ["rows", "predictor_type", "k", "metric", "weights", "index_type", "seconds", "rows_per_second"]
SCORES = ["scores", "best_k", "score_per_k"]


def evaluated(predictor_type, labels, truth, rows, aggregation=Aggregation.MEAN):
    vote = vote_for(predictor_type, aggregation, labels)
    evaluation = Evaluation(predictor_type)
    weights = (rows >= 0).astype(float)
    evaluation.add(vote, truth, vote(rows, weights), rows, weights)
    options = ModelOptions(
        dimension=2,
        k=rows.shape[1],
        predictor_type=predictor_type,
        metric=Metric.L2,
        nprobe=5,
        weights=Weights.UNIFORM,
        aggregation=aggregation,
        reduction=None,
    )
    return evaluation, options


def random(predictor_type, classes=3, k=4, rows=200):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 500).astype(float)
    return evaluated(predictor_type, labels, rng.integers(0, classes, rows), rng.integers(0, 500, (rows, k)))


def write(folder, evaluation, options):
    report.write(folder, evaluation, options, "faiss.Flat", 0.5)
    return json.loads((folder / "evaluation.json").read_text(), parse_constant=pytest.fail)


def test_the_document_is_what_was_worked_out_by_hand(tmp_path):
    labels = np.array([7, 7, 8.5])
    document = write(tmp_path, *evaluated("classifier", labels, np.array([7, 8.5]), np.array([[0, 1, 2], [0, 2, 2]])))
    assert document == {
        "rows": 2,
        "predictor_type": "classifier",
        "k": 3,
        "metric": "L2",
        "weights": "uniform",
        "index_type": "faiss.Flat",
        "seconds": 0.5,
        "rows_per_second": 4.0,
        "scores": {"accuracy": 1.0, "macro_f1": 1.0, "classes": 2},
        "best_k": {"k": 3, "accuracy": 1.0},
        "score_per_k": [{"k": 1, "accuracy": 0.5}, {"k": 2, "accuracy": 0.5}, {"k": 3, "accuracy": 1.0}],
        "classes": [
            {"label": 7, "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1},
            {"label": 8.5, "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1},
        ],
        "confusion_matrix": [[1, 0], [0, 1]],
    }
    assert list(document) == [*FIELDS, *SCORES, "classes", "confusion_matrix"]


def test_the_engines_of_the_search_are_told_in_milliseconds(tmp_path):
    timings = [Timing("scan", 16, 0.0125, chosen=False), Timing("kd_tree", 16, 0.001, chosen=True)]
    report.write(tmp_path, *random("classifier"), "faiss.Flat", 0.5, timings=timings)
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(document) == [*FIELDS, "engines", *SCORES, "classes", "confusion_matrix"]
    assert document["engines"] == [
        {"engine": "scan", "queries": 16, "milliseconds": 12.5, "chosen": False},
        {"engine": "kd_tree", "queries": 16, "milliseconds": 1.0, "chosen": True},
    ]


def test_a_regressors_document_is_what_was_worked_out_by_hand(tmp_path):
    document = write(
        tmp_path, *evaluated("regressor", np.array([1.0, 5]), np.array([2, 4]), np.array([[0, 1], [1, 0]]))
    )
    assert list(document) == [*FIELDS[:5], "aggregation", *FIELDS[5:], *SCORES]
    assert document["aggregation"] == "mean"
    assert document["scores"] == {"mse": 1.0, "rmse": 1.0, "mae": 1.0, "r2": 0.0}
    assert document["score_per_k"] == [{"k": 1, "mse": 1.0}, {"k": 2, "mse": 1.0}]
    assert document["best_k"] == {"k": 1, "mse": 1.0}


def test_what_is_infinite_is_null(tmp_path):
    document = write(tmp_path, *evaluated("regressor", np.array([1e200]), np.array([-1e200, 0]), np.array([[0], [0]])))
    assert document["scores"] == {"mse": None, "rmse": None, "mae": 1.5e200, "r2": None}
    assert document["score_per_k"] == [{"k": 1, "mse": None}]


@pytest.mark.parametrize(
    ("predictor_type", "classes", "k"),
    [
        ("classifier", 1, 1),
        ("classifier", 3, 4),
        ("classifier", 20, 60),
        ("classifier", 90, 4),
        ("classifier", 150, 4),
        ("classifier", 10000, 4),
        ("regressor", 1, 1),
        ("regressor", 1000, 120),
    ],
)
def test_the_picture_has_its_panels(tmp_path, caplog, predictor_type, classes, k):
    write(tmp_path, *random(predictor_type, classes, k))
    assert caplog.messages == []
    with Image.open(BytesIO((tmp_path / "evaluation.png").read_bytes())) as image:
        assert image.format == "PNG"
        assert image.width == pytest.approx(672 * (2 if predictor_type == "classifier" else 3))
        assert image.height == pytest.approx(624)
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.json", "evaluation.png"]


def test_more_than_a_thousand_classes_leave_one_panel(tmp_path):
    rows = np.arange(1500)
    write(tmp_path, *evaluated("classifier", rows, rows, rows[:, np.newaxis]))
    with Image.open(tmp_path / "evaluation.png") as image:
        assert image.width == 672


def test_a_picture_that_cannot_be_drawn_costs_a_warning(tmp_path, caplog, monkeypatch):
    def fail(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr(picture, "draw", fail)
    assert write(tmp_path, *random("classifier"))["rows"] == 200
    assert [(it.levelno, "no ink" in it.message) for it in caplog.records] == [(logging.WARNING, True)]
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]


@pytest.mark.parametrize("name", ["evaluation.json.part", "evaluation.png.part"])
def test_a_full_disk_costs_a_warning_and_leaves_no_part(tmp_path, caplog, monkeypatch, name):
    write_bytes = Path.write_bytes

    def fill(path, content):
        if path.name == name:
            write_bytes(path, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill)
    report.write(tmp_path, *random("classifier"), "faiss.Flat", 1.0)
    assert [(it.levelno, "No space left" in it.message) for it in caplog.records] == [(logging.WARNING, True)]
    assert {path.name for path in tmp_path.iterdir()} == ({"evaluation.json"} if "png" in name else set())


def test_a_folder_that_cannot_be_made_costs_a_warning(tmp_path, caplog):
    (tmp_path / "output").write_text("")
    report.write(tmp_path / "output" / "data", *random("regressor"), "faiss.Flat", 1.0)
    report.remove(tmp_path / "output" / "data")
    assert {it.levelno for it in caplog.records} == {logging.WARNING}


def test_an_earlier_report_is_removed(tmp_path):
    write(tmp_path, *random("classifier"))
    (tmp_path / "other").touch()
    report.remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


ALONE = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_report
test_report.write(Path(sys.argv[1]), *test_report.random("regressor"))
assert "MPLCONFIGDIR" not in os.environ
assert "matplotlib.pyplot" not in sys.modules
"""


def test_a_picture_needs_no_folder_but_its_own_and_no_settings(tmp_path):
    (tmp_path / "home" / ".config" / "matplotlib").mkdir(parents=True)
    (tmp_path / "home" / ".config" / "matplotlib" / "matplotlibrc").write_text("figure.dpi: nonsense")
    environment = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE, tmp_path / "report", Path(__file__).parent],
        env=environment | {"HOME": str(tmp_path / "home"), "TMPDIR": "/proc/nowhere"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"evaluation.json", "evaluation.png"}
    assert [path.name for path in (tmp_path / "home").iterdir()] == [".config"]


@pytest.fixture
def train(write_job, digits, csv):
    def train_(files=("train", "test"), **hyperparameters):
        contents = {
            "train": csv(digits.train_rows, digits.train_labels),
            "test": csv(digits.test_rows, digits.test_labels),
        }
        base = write_job({f"{name}/digits.csv": contents[name] for name in files}, **hyperparameters)
        (base / "output" / "data").mkdir(parents=True)
        (base / "output" / "data" / "evaluation.json").write_text("an earlier job's")
        run.train(Folders(base), pack=False)
        return base / "output" / "data"

    return train_


def test_a_job_leaves_the_scores_of_scikit_learn_for_every_k(train, digits, caplog):
    caplog.set_level(logging.INFO)
    folder = train(k=10, mini_batch_size=100)
    document = json.loads((folder / "evaluation.json").read_text())
    expected = {
        k: KNeighborsClassifier(k, algorithm="brute")
        .fit(digits.train_rows, digits.train_labels)
        .score(digits.test_rows, digits.test_labels)
        for k in range(1, 11)
    }
    assert document["rows"] == len(digits.test_labels)
    # Rows at one distance are in another order there, which a few votes hang on.
    assert {it["k"]: it["accuracy"] for it in document["score_per_k"]} == pytest.approx(expected, abs=0.003)
    best = document["best_k"]
    assert best["accuracy"] == max(it["accuracy"] for it in document["score_per_k"])
    assert f"Best k of 1..10: {best['k']}, accuracy {best['accuracy']:.4g}" in caplog.messages
    assert f"('accuracy', {document['scores']['accuracy']!r})" in "\n".join(caplog.messages)
    assert (folder / "evaluation.png").is_file()


def test_a_job_without_a_test_channel_leaves_no_report(train):
    assert list(train(files=["train"]).iterdir()) == []


def test_a_job_whose_report_cannot_be_written_succeeds(train, caplog, monkeypatch):
    monkeypatch.setattr(report, "_leave", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    folder = train()
    assert (folder.parents[1] / "model" / "manifest.json").is_file()
    assert any("full" in it.message for it in caplog.records if it.levelno == logging.WARNING)


def test_a_search_that_cannot_be_made_faster_scores_as_it_is(train, caplog, monkeypatch):
    def fail(*_):
        raise MemoryError("no room for a tree")

    monkeypatch.setattr(ExactSearch, "speed_up", fail)
    assert json.loads((train() / "evaluation.json").read_text())["rows"] > 0
    failed = next(it for it in caplog.records if it.levelno == logging.ERROR)
    assert (failed.exc_info[0], "no faster" in failed.message) == (MemoryError, True)


def test_what_cannot_be_written_of_the_index_costs_a_line_in_the_log(tmp_path, caplog):
    (tmp_path / "report").write_text("no folder")
    given = hyperparameters.parse({"k": "1", "predictor_type": "classifier", "sample_size": "9", "index_type": "auto"})
    _, options = random("classifier")
    report.write_index(tmp_path / "report", Built(None, given.index_spec, options, [], None), 9, given)
    assert [message.partition(":")[0] for message in caplog.messages] == ["The report on the index is not complete"]


def test_an_earlier_jobs_report_on_the_index_goes(tmp_path):
    assert not report.is_there(tmp_path)
    (tmp_path / "index.json").write_text("an earlier job's")
    assert report.is_there(tmp_path)
    report.remove(tmp_path)
    assert not list(tmp_path.iterdir())
