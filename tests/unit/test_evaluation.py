import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_digits
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    precision_recall_fscore_support,
    r2_score,
    root_mean_squared_error,
)
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from knn_container.training.evaluation import ClassifierScore, Evaluation, RegressorScore, score_for
from knn_container.voting import Aggregation, vote_for

CLASSES = st.lists(st.tuples(st.integers(-2, 4), st.integers(-2, 4)), min_size=1, max_size=60)


def scored(score, labels, predictions, batch):
    for start in range(0, len(labels), batch):
        score.add(labels[start : start + batch], predictions[start : start + batch])
    return score.result()


@given(pairs=CLASSES, batch=st.integers(1, 70), dtype=st.sampled_from(["int32", "float32", "float64"]))
def test_accuracy_and_macro_f1_are_scikit_learns_over_any_batches(pairs, batch, dtype):
    labels, predictions = np.array(pairs).T
    result = scored(ClassifierScore(), labels.astype(dtype), predictions.astype(np.float32), batch)
    assert list(result) == ["accuracy", "macro_f_1.000"]
    assert result["accuracy"] == pytest.approx(accuracy_score(labels, predictions), abs=1e-12)
    assert result["macro_f_1.000"] == pytest.approx(f1_score(labels, predictions, average="macro"), abs=1e-12)


@given(
    pairs=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=60),
    batch=st.integers(1, 70),
)
def test_the_squared_error_is_scikit_learns_over_any_batches(pairs, batch):
    labels, predictions = np.array(pairs).T
    result = scored(RegressorScore(), labels, predictions, batch)
    assert list(result) == ["mse"]
    assert result["mse"] == pytest.approx(mean_squared_error(labels, predictions), rel=1e-12)


def test_scores_counted_by_hand():
    # Class 1: 1 right of 2 actual and 1 predicted, F1 2/3; class 2: 1 of 1 and 2, F1 2/3; class 3: F1 0.
    labels, predictions = np.array([1, 1, 2, 3], np.int32), np.array([1, 2, 2, 4], np.float32)
    assert scored(ClassifierScore(), labels, predictions, 3) == {
        "accuracy": 0.5,
        "macro_f_1.000": pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4),
    }
    assert scored(RegressorScore(), labels, predictions, 3) == {"mse": 0.5}


def test_large_labels_that_float32_would_merge_stay_apart():
    labels = np.array([2**24 + 1, 2**53 - 1], np.float64)
    assert scored(ClassifierScore(), labels, labels - 1, 1)["accuracy"] == 0
    assert scored(ClassifierScore(), labels, labels.copy(), 1)["accuracy"] == 1


@pytest.mark.parametrize(("predictor_type", "kind"), [("classifier", ClassifierScore), ("regressor", RegressorScore)])
def test_each_predictor_has_its_score_which_counts_rows(predictor_type, kind):
    score = score_for(predictor_type)
    assert isinstance(score, kind)
    score.add(np.zeros(3), np.zeros(3))
    score.add(np.zeros(2), np.zeros(2))
    assert score.rows == 5


@given(pairs=CLASSES, batch=st.integers(1, 70))
def test_a_classifiers_details_are_scikit_learns(pairs, batch):
    labels, predictions = np.array(pairs).T
    score = ClassifierScore()
    scored(score, labels.astype(np.float32), predictions.astype(np.float32), batch)
    details = score.details()
    classes = np.union1d(labels, predictions)
    accuracy, f1 = score.result().values()
    assert details["scores"] == {"accuracy": accuracy, "macro_f1": f1, "classes": len(classes)}
    names = ["precision", "recall", "f1", "support"]
    expected = np.array(precision_recall_fscore_support(labels, predictions, zero_division=0)).T
    came = [[entry[name] for name in names] for entry in details["classes"]]
    np.testing.assert_allclose(came, expected, atol=1e-12)
    assert [entry["label"] for entry in details["classes"]] == classes.tolist()
    counted = [[np.sum((labels == actual) & (predictions == it)) for it in classes] for actual in classes]
    assert details["confusion_matrix"] == counted


def test_whole_labels_are_told_as_whole_numbers():
    score = ClassifierScore()
    score.add(np.array([1, 2.5]), np.array([1, 2.5]))
    assert [repr(entry["label"]) for entry in score.details()["classes"]] == ["1", "2.5"]


@pytest.mark.parametrize(
    ("classes", "told"),
    [(100, {"scores", "classes", "confusion_matrix"}), (101, {"scores", "classes"}), (1001, {"scores"})],
)
def test_of_many_classes_less_is_told(classes, told):
    score = ClassifierScore()
    labels = np.arange(classes)
    scored(score, labels, labels.astype(np.float32), 30)
    details = score.details()
    assert set(details) == told
    assert details["scores"] == {"accuracy": 1, "macro_f1": 1, "classes": classes}


@given(
    pairs=st.lists(st.tuples(st.integers(-9999, 9999), st.integers(-9999, 9999)), min_size=2, max_size=60),
    batch=st.integers(1, 70),
    far=st.sampled_from([0, 1e3, -1e6]),
)
def test_a_regressors_details_are_scikit_learns(pairs, batch, far):
    labels, predictions = np.array(pairs).T / 10 + far
    score = RegressorScore()
    scored(score, labels, predictions, batch)
    scores = score.details()["scores"]
    assert list(scores) == ["mse", "rmse", "mae", "r2"]
    assert scores["mse"] == pytest.approx(mean_squared_error(labels, predictions))
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(labels, predictions))
    assert scores["mae"] == pytest.approx(mean_absolute_error(labels, predictions))
    if np.ptp(labels):
        assert scores["r2"] == pytest.approx(r2_score(labels, predictions), rel=1e-6, abs=1e-6)
    else:
        assert scores["r2"] is None


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_equal_labels_have_no_r2(batch):
    score = RegressorScore()
    scored(score, np.full(7, 0.1), np.arange(7.0), batch)
    assert score.details()["scores"]["r2"] is None


def test_the_sample_holds_whole_pairs_evenly_from_all_rows_whatever_the_batch():
    labels = np.arange(20000.0)
    samples = []
    for batch in (20000, 777):
        score = RegressorScore()
        scored(score, labels, labels + 0.5, batch)
        samples.append(score.sample())
    np.testing.assert_array_equal(*samples)
    actual, predicted = samples[0]
    assert len(np.unique(actual)) == 5000
    np.testing.assert_array_equal(predicted, actual + 0.5)
    # Of each quarter of the rows 1250 are expected, with a standard deviation of 27.
    assert np.abs(np.histogram(actual, 4)[0] - 1250).max() < 5 * 27


def test_few_rows_are_all_in_the_sample():
    score = RegressorScore()
    scored(score, np.arange(9.0), np.arange(9.0), 4)
    assert sorted(score.sample()[0]) == list(range(9))


@pytest.mark.parametrize(
    ("predictor_type", "load", "estimator"),
    [("classifier", load_digits, KNeighborsClassifier), ("regressor", load_diabetes, KNeighborsRegressor)],
)
def test_the_score_of_every_k_is_scikit_learns(predictor_type, load, estimator):
    features, labels = load(return_X_y=True)
    queries, truth, features, labels = features[:150], labels[:150], features[150:], labels[150:]
    rows = estimator(20, algorithm="brute").fit(features, labels).kneighbors(queries, return_distance=False)
    vote = vote_for(predictor_type, Aggregation.MEAN, labels)
    evaluation = Evaluation(predictor_type)
    for part in (slice(0, 47), slice(47, 150)):
        weights = np.ones(rows[part].shape)
        evaluation.add(vote, truth[part], vote(rows[part], weights), rows[part], weights)
    measure = accuracy_score if predictor_type == "classifier" else mean_squared_error
    expected = [
        measure(truth, estimator(k, algorithm="brute").fit(features, labels).predict(queries)) for k in range(1, 21)
    ]
    scores = evaluation.per_k()
    assert list(scores) == list(range(1, 21))
    np.testing.assert_allclose(list(scores.values()), expected, rtol=1e-9)
    assert scores[20] == next(iter(evaluation.score.result().values()))
    choose = max if predictor_type == "classifier" else min
    assert evaluation.best() == (scores_of(choose, scores), choose(scores.values()))


def scores_of(choose, scores):
    """The smallest k with the best score."""
    return min(k for k, score in scores.items() if score == choose(scores.values()))


@pytest.mark.parametrize("predictor_type", ["classifier", "regressor"])
def test_the_smallest_k_is_the_best_among_equals(predictor_type):
    labels = np.array([1.0, 2.0, 2.0, 2.0])
    vote = vote_for(predictor_type, Aggregation.MEDIAN, labels)
    evaluation = Evaluation(predictor_type)
    rows = np.array([[0, 1, 2, 3, -1]])
    weights = (rows >= 0).astype(float)
    evaluation.add(vote, np.array([2.0]), vote(rows, weights), rows, weights)
    assert evaluation.best()[0] == 3
