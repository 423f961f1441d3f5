"""From data to predictions, through real processes, compared with scikit-learn."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import requests
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

LINE = re.compile(r"\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d (INFO|WARNING|ERROR) \d+\] ")
RECORDIO = "application/x-recordio-protobuf"


@dataclass(frozen=True)
class Case:
    """A data set, how it is split in two, and the share of the queries that may be tied."""

    load: Callable
    predictor_type: str
    ties: float

    def split(self):
        rows, labels = self.load(return_X_y=True)
        rows, labels = rows.astype(np.float32), labels.astype(np.float64)
        return rows[::2], labels[::2], rows[1::2], labels[1::2]

    def reference(self, k):
        estimator = KNeighborsClassifier if self.predictor_type == "classifier" else KNeighborsRegressor
        return estimator(k, algorithm="brute")


CASES = {
    "digits": Case(load_digits, "classifier", 0.03),
    "breast cancer": Case(load_breast_cancer, "classifier", 0.0),
    "diabetes": Case(load_diabetes, "regressor", 0.01),
    "digits as numbers": Case(load_digits, "regressor", 0.03),
}


def untied(rows, queries, k):
    """Which queries have a k-th neighbour nearer than the next one, in float32."""
    exact = [np.sort(((rows.astype(np.float64) - query) ** 2).sum(axis=1)) for query in queries.astype(np.float64)]
    ordered = np.array(exact).astype(np.float32)
    return ordered[:, k - 1] < ordered[:, k]


@pytest.fixture
def run(write_job, train, serving, csv, recordio):
    """Trains, tests and serves; gives the log and the predictions."""

    def encode(content_type, rows, labels=None):
        return csv(rows, labels) if content_type == "text/csv" else recordio.rows(rows, labels, label_kind="float64")

    def run_(case, content_type, **hyperparameters):
        rows, labels, queries, actual = case.split()
        files = {"train/rows": encode(content_type, rows, labels), "test/rows": encode(content_type, queries, actual)}
        base = write_job(files, content_type=content_type, predictor_type=case.predictor_type, **hyperparameters)
        done = train(base)
        assert done.returncode == 0, done.stdout
        with serving(base) as server:
            answer = server.invoke(encode(content_type, queries), content_type)
        return done.stdout, np.array([row["predicted_label"] for row in answer.json()["predictions"]])

    return run_


@pytest.mark.parametrize("content_type", ["text/csv", RECORDIO])
@pytest.mark.parametrize("name", CASES)
def test_predictions_are_those_of_scikit_learn(run, name, content_type):
    case, k = CASES[name], 7
    rows, labels, queries, actual = case.split()
    log, predicted = run(case, content_type, k=k)
    expected = case.reference(k).fit(rows, labels).predict(queries)
    certain = untied(rows, queries, k)
    assert 1 - certain.mean() <= case.ties
    np.testing.assert_array_equal(predicted[certain], expected[certain])
    check_score(log, predicted, actual, case.predictor_type)


def check_score(log, predicted, actual, predictor_type):
    """Checks that the log scores what the endpoint predicts, to the last row."""
    if predictor_type == "classifier":
        name, score = "accuracy <score>", np.mean(predicted == actual)
    else:
        name, score = "mse <loss>", np.mean((predicted - actual) ** 2)
    (logged,) = re.findall(rf"#quality_metric: host=algo-1, test {name}=(\S+)", log)
    assert float(logged) == pytest.approx(score, rel=1e-12)


def test_every_line_of_the_log_has_the_shape_of_the_built_in_algorithms(write_job, train):
    done = train(write_job({"train/rows.csv": b"1,0\n2,1\n3,2\n", "test/rows.csv": b"1,0\n"}))
    assert done.returncode == 0
    metrics = [line for line in done.stdout.splitlines() if line.startswith("#metrics ")]
    assert all({"StartTime", "EndTime", "Dimensions", "Metrics"} <= set(json.loads(line[9:])) for line in metrics)
    assert [line for line in done.stdout.splitlines() if line not in metrics and not LINE.match(line)] == []


def test_every_request_type_reaches_the_model(server, digits, expect, csv, recordio):
    queries = digits.test_rows[:30]
    expected = expect(digits.train_rows, digits.train_labels, queries, k=5)
    instances = [{"features": row} for row in queries.astype(np.float64).tolist()]
    bodies = {
        "text/csv": csv(queries),
        "application/json": json.dumps({"instances": instances}),
        "application/jsonlines": "\n".join(map(json.dumps, instances)),
        RECORDIO: recordio.rows(queries),
    }
    answers = {kind: server.invoke(body, kind, "application/json; verbose=true") for kind, body in bodies.items()}
    assert {answer.status_code for answer in answers.values()} == {200}
    assert len({answer.content for answer in answers.values()}) == 1
    predictions = answers["text/csv"].json()["predictions"]
    np.testing.assert_array_equal([row["predicted_label"] for row in predictions], expected.predicted)
    np.testing.assert_array_equal(np.float32([row["distances"] for row in predictions]), expected.distances)


def test_without_the_optional_documents_the_channels_are_the_folders_that_there_are(
    write_job, train, serving, recordio
):
    base = write_job(
        {"train/a/rows.rec": recordio.rows([[0], [1], [9]], [5, 6, 7]), "test/b": recordio.rows([[9]], [7])}
    )
    for name in ("inputdataconfig", "resourceconfig"):
        (base / "input" / "config" / f"{name}.json").unlink()
    (base / "input" / "config" / "hyperparameters.json").write_text(
        '{"k": "1", "predictor_type": "classifier", "sample_size": "10"}'
    )
    done = train(base)
    assert done.returncode == 0, done.stdout
    assert "#quality_metric: host=algo-1, test accuracy <score>=1.0" in done.stdout
    with serving(base) as server:
        assert server.invoke("8", accept="text/csv").content == b"7.0\n"


def test_serving_starts_from_the_packed_model(trained, serving, tmp_path, server):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.tar.gz").write_bytes((trained / "output" / "model.tar.gz").read_bytes())
    body = ",".join(["0.5"] * 64)
    (tmp_path / "tmp").mkdir()
    with serving(tmp_path, TMPDIR=tmp_path / "tmp") as unpacked:
        assert unpacked.invoke(body).content == server.invoke(body).content


@pytest.mark.parametrize("variable", ["TRAINING_JOB_NAME", "TRAINING_JOB_ARN"])
def test_on_the_platform_the_model_is_not_packed(write_job, train, variable):
    base = write_job({"train/rows.csv": b"1,0\n2,1\n3,2\n"})
    assert train(base, **{variable: "job"}).returncode == 0
    assert (base / "model" / "manifest.json").exists()
    assert not (base / "output" / "model.tar.gz").exists()
    assert train(base).returncode == 0
    assert (base / "output" / "model.tar.gz").exists()


def test_a_folder_without_a_model_is_served_with_503(serving, tmp_path):
    with serving(tmp_path, wait=False) as server:
        while (status := server.ping()) is None:
            assert server.process.poll() is None
        assert status == 503
        while "being loaded" in (reason := requests.get(f"{server.url}/ping", timeout=5).json()["error"]):
            pass
        assert "manifest.json does not exist" in reason
        assert server.invoke("1").status_code == 503
