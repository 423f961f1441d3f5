"""What hosts have scored apart is, put together, the score of all rows."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_digits
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
)
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from knn_container.training.evaluation import ClassifierScore, Evaluation, RegressorScore
from knn_container.voting import Aggregation, vote_for

CLASSES = st.lists(st.tuples(st.integers(-2, 4), st.integers(-2, 4)), min_size=1, max_size=60)
NUMBERS = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=60)
CUTS = st.lists(st.floats(0, 1), max_size=4)


def cut(values, cuts):
    """Cuts (n, 2) values into parts, of which some may be empty."""
    return np.split(values, sorted(round(it * len(values)) for it in cuts))


def merged(scores):
    """The first score with all the others in it, each having travelled."""
    first, *others = scores
    for other in others:
        first.merge(pickle.loads(pickle.dumps(other)))
    return first


def scored(make, parts):
    scores = [make(seed) for seed in range(len(parts))]
    for score, part in zip(scores, parts, strict=True):
        if len(part):  # a host without test rows adds nothing
            score.add(part[:, 0], part[:, 1].astype(np.float32))
    return merged(scores)


@given(pairs=CLASSES, cuts=CUTS)
def test_a_classifiers_scores_are_scikit_learns_over_all_rows(pairs, cuts):
    values = np.array(pairs, np.float64)
    labels, predictions = values.T
    score = scored(lambda seed: ClassifierScore(), cut(values, cuts))
    details = score.details()
    assert score.rows == len(pairs)
    assert score.result()["accuracy"] == pytest.approx(accuracy_score(labels, predictions), abs=1e-12)
    assert score.result()["macro_f_1.000"] == pytest.approx(f1_score(labels, predictions, average="macro"), abs=1e-12)
    classes = [*np.union1d(labels, predictions), 9]  # scikit-learn warns of matrices of one class
    assert details["confusion_matrix"] == confusion_matrix(labels, predictions, labels=classes)[:-1, :-1].tolist()
    alone = scored(lambda seed: ClassifierScore(), [values])
    assert details == alone.details()


@given(pairs=NUMBERS, cuts=CUTS)
def test_a_regressors_scores_are_scikit_learns_over_all_rows(pairs, cuts):
    values = np.array(pairs, np.float64)
    values[:, 1] = values[:, 1].astype(np.float32)
    labels, predictions = values.T
    score = scored(RegressorScore, cut(values, cuts))
    scores = score.details()["scores"]
    assert score.rows == len(pairs)
    assert scores["mse"] == pytest.approx(mean_squared_error(labels, predictions), rel=1e-12)
    assert scores["mae"] == pytest.approx(mean_absolute_error(labels, predictions), rel=1e-12)
    if labels.std() > 1e-3:
        assert scores["r2"] == pytest.approx(r2_score(labels, predictions), rel=1e-6, abs=1e-6)
    if len(set(labels)) == 1:
        assert scores["r2"] is None


@pytest.mark.parametrize("spread", [0, 1])
def test_the_spread_of_large_labels_that_are_near_each_other_stays_exact(spread):
    labels = 2.0**50 + spread * np.arange(12)
    parts = np.split(np.stack([labels, labels + 1], axis=1), 3)
    scores = [RegressorScore(seed) for seed in range(3)]
    for score, part in zip(scores, parts, strict=True):
        score.add(part[:, 0], part[:, 1])
    # 12 squared errors of 1; the squared distances of 0 to 11 from 5.5 are 143 in sum.
    assert merged(scores).details()["scores"]["r2"] == (pytest.approx(1 - 12 / 143, rel=1e-12) if spread else None)


@pytest.mark.parametrize("first", ["few", "many"])
def test_no_confusion_matrix_is_left_of_more_than_100_classes(first):
    few, many = ClassifierScore(), ClassifierScore()
    few.add(np.arange(10), np.arange(10))
    many.add(np.arange(101), np.arange(101))
    score = merged([few, many] if first == "few" else [many, few])
    assert "confusion_matrix" not in score.details()
    # Nor where each of two has fewer and both together have more.
    low, high = ClassifierScore(), ClassifierScore()
    low.add(np.arange(60), np.arange(60))
    high.add(np.arange(50, 110), np.arange(50, 110))
    assert "confusion_matrix" in low.details()
    assert "confusion_matrix" not in merged([low, high]).details()


def test_the_rows_in_the_picture_are_drawn_evenly_from_all_hosts():
    # 30,000 rows on one host and 10,000 on another: of 5,000, 1,250 are the second's, give or take 30.
    scores = [RegressorScore(seed) for seed in range(2)]
    for score, label, rows in zip(scores, (0, 1), (30_000, 10_000), strict=True):
        for _ in range(10):
            score.add(np.full(rows // 10, label), np.full(rows // 10, label))
    labels, predictions = merged(scores).sample()
    assert len(labels) == 5000
    np.testing.assert_array_equal(labels, predictions)
    assert abs(np.count_nonzero(labels == 1) - 1250) < 150


def test_rows_that_two_hosts_would_draw_alike_are_not():
    scores = [Evaluation("regressor", seed).score for seed in range(2)]
    for score, label in zip(scores, (0, 1), strict=True):
        score.add(np.full(5000, label), np.arange(5000))
    labels, numbers = merged(scores).sample()
    assert len(set(numbers[labels == 0]) & set(numbers[labels == 1])) < 0.75 * 2500


@pytest.mark.parametrize("empty", [0, 1])
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_a_host_without_test_rows_changes_nothing(kind, empty):
    evaluations = [Evaluation(kind, seed) for seed in range(2)]
    filled = evaluations[1 - empty]
    labels = np.array([1.0, 2.0, 2.0])
    filled.add(vote_of(kind, labels), labels, labels, np.array([[0, 1], [1, 0], [2, 1]]), np.ones((3, 2)))
    expected = (filled.score.details(), filled.per_k(), filled.best())
    both = merged(evaluations)
    assert (both.score.details(), both.per_k(), both.best()) == expected


def vote_of(kind, labels):
    return vote_for(kind, Aggregation.MEAN, labels)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_scores_for_every_k_are_scikit_learns_over_the_rows_of_all_hosts(kind):
    k = 6
    if kind == "classifier":
        data, estimator, judge = load_digits(return_X_y=True), KNeighborsClassifier, accuracy_score
    else:
        data, estimator, judge = load_diabetes(return_X_y=True), KNeighborsRegressor, mean_squared_error
    rows, labels = data[0][:400], data[1][:400].astype(np.float64)
    vote = vote_of(kind, labels[:300])
    fitted = estimator(k, algorithm="brute").fit(rows[:300], labels[:300])
    neighbours = fitted.kneighbors(rows[300:], return_distance=False)
    evaluations = [Evaluation(kind, seed) for seed in range(3)]
    for evaluation, part in zip(evaluations, (slice(0, 50), slice(50, 51), slice(51, 100)), strict=True):
        chosen = neighbours[part]
        weights = np.ones(chosen.shape)
        evaluation.add(vote, labels[300:][part], vote(chosen, weights), chosen, weights)
    found = merged(evaluations).per_k()
    assert list(found) == [1, 2, 3, 4, 5, 6]
    for number, value in found.items():
        expected = judge(
            labels[300:], estimator(number, algorithm="brute").fit(rows[:300], labels[:300]).predict(rows[300:])
        )
        assert value == pytest.approx(expected, rel=1e-12)
