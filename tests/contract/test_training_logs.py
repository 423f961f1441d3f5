"""The lines that a training job logs, as SageMaker's tuner reads them."""

import logging
import re

import numpy as np
import pytest

ACCURACY = re.compile(r"#quality_metric: host=\S+, test accuracy <score>=(\S+)")
MSE = re.compile(r"#quality_metric: host=\S+, test mse <loss>=(\S+)")


SCORES = ("#test_score", "#quality_metric")


def scores(lines):
    return [line for line in lines if line.startswith(SCORES)]


@pytest.fixture
def log(train, digits, csv, caplog):
    """Trains on the digits, scores their test rows, and gives the lines."""

    def log_(**hyperparameters):
        caplog.set_level(logging.INFO)
        train(
            {
                "train/digits.csv": csv(digits.train_rows, digits.train_labels),
                "test/part-1/digits.csv": csv(digits.test_rows[:400], digits.test_labels[:400]),
                "test/part-2/digits.csv": csv(digits.test_rows[400:], digits.test_labels[400:]),
            },
            k=5,
            **hyperparameters,
        )
        return caplog.messages

    return log_


def macro_f1(actual, predicted):
    scores = []
    for label in np.union1d(actual, predicted):
        right = np.sum((actual == label) & (predicted == label))
        scores.append(2 * right / (np.sum(actual == label) + np.sum(predicted == label)))
    return np.mean(scores)


def test_a_classifier_logs_accuracy_and_macro_f1(log, digits, expect):
    predicted = expect(digits.train_rows, digits.train_labels, digits.test_rows, k=5).predicted
    accuracy = float(np.mean(predicted == digits.test_labels))
    f1 = macro_f1(digits.test_labels, predicted)
    lines = scores(log())
    assert len(lines) == 4
    assert lines[0] == f"#test_score (algo-1) : ('accuracy', {accuracy!r})"
    assert lines[1].startswith("#test_score (algo-1) : ('macro_f_1.000', ")
    assert lines[2] == f"#quality_metric: host=algo-1, test accuracy <score>={accuracy!r}"
    assert lines[3].startswith("#quality_metric: host=algo-1, test macro_f_1.000 <score>=")
    assert float(lines[1].rpartition(" ")[2].rstrip(")")) == pytest.approx(f1, abs=1e-12)
    assert float(lines[3].rpartition("=")[2]) == pytest.approx(f1, abs=1e-12)


def test_a_regressor_logs_the_mean_squared_error(log, digits, expect):
    labels = digits.train_labels.astype(np.float64)
    predicted = expect(digits.train_rows, labels, digits.test_rows, k=5, predictor="regressor").predicted
    mse = float(np.mean((predicted - digits.test_labels) ** 2))
    lines = scores(log(predictor_type="regressor"))
    assert len(lines) == 2
    assert re.fullmatch(r"#test_score \(algo-1\) : \('mse', (\S+)\)", lines[0])
    (score,) = MSE.fullmatch(lines[1]).groups()
    assert float(score) == pytest.approx(mse, rel=1e-12)


@pytest.mark.parametrize(("predictor_type", "metric"), [("classifier", ACCURACY), ("regressor", MSE)])
def test_the_tuner_finds_one_score(log, predictor_type, metric):
    found = metric.findall("\n".join(log(predictor_type=predictor_type, mini_batch_size=7)))
    assert len(found) == 1
    assert 0 < float(found[0]) < 10


def test_scores_do_not_depend_on_the_mini_batch_size(log, caplog):
    first = scores(log(mini_batch_size=1))
    caplog.clear()
    assert scores(log(mini_batch_size=123)) == first


def test_without_a_test_channel_no_score_is_logged(train, caplog):
    caplog.set_level(logging.INFO)
    train({"train/rows.csv": b"1,0\n2,1\n3,2\n"})
    assert scores(caplog.messages) == []
    assert any("3 of 3 rows" in line for line in caplog.messages)
