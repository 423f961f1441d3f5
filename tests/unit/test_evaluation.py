import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error

from knn_container.evaluation import ClassifierScore, RegressorScore, score_for

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
