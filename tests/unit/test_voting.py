import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gmean, mode
from sklearn.datasets import load_diabetes, load_digits
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from knn_container.errors import UserError
from knn_container.metric import Metric
from knn_container.voting import Aggregation, MajorityVote, Mean, Median, Weights, answer_type, vote_for, weigh

SMALL_LABELS = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


def uniform(rows):
    return weigh(Weights.UNIFORM, Metric.L2, rows, np.zeros(rows.shape, np.float32))


def predict(vote, rows):
    return vote(rows, uniform(rows))


@given(labels=SMALL_LABELS, k=st.integers(1, 200), seed=st.integers(0, 2**32), dtype=st.sampled_from("ifdq"))
def test_the_majority_is_scipys_mode_with_ties_to_the_smallest(labels, k, seed, dtype):
    labels = np.array(labels, dtype)
    rows = np.random.default_rng(seed).integers(0, len(labels), (20, k))
    np.testing.assert_array_equal(predict(MajorityVote(labels), rows), mode(labels[rows], axis=1).mode)


@given(labels=SMALL_LABELS, k=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_missing_neighbours_do_not_vote(labels, k, seed):
    rng = np.random.default_rng(seed)
    labels = np.array(labels, np.float32)
    rows = rng.integers(0, len(labels), (20, k))
    found = rng.integers(1, k + 1, 20)
    rows[np.arange(k) >= found[:, None]] = -1
    majority, mean = predict(MajorityVote(labels), rows), predict(Mean(labels), rows)
    median = predict(Median(labels), rows)
    for i, row in enumerate(rows):
        votes = labels[row[: found[i]]]
        assert majority[i] == mode(votes).mode
        assert mean[i] == pytest.approx(votes.astype(float).mean(), abs=1e-12)
        assert median[i] == np.median(votes)


@pytest.mark.parametrize(
    ("labels", "rows", "winner"),
    [
        ([5, 3, 9], [[0, 1, 2]], 3),
        ([5, 3, 9], [[2, 0, 0]], 5),
        ([-1, -7, 0], [[0, 1, 2]], -7),
        ([2, 1, 1, 2], [[0, 1, 2, 3]], 1),
        ([4], [[0]], 4),
        ([9, 1], [[0, -1, -1]], 9),
        ([9, 9, 1], [[2, -1, -1]], 1),
    ],
)
def test_votes_counted_by_hand(labels, rows, winner):
    assert predict(MajorityVote(np.array(labels, np.int32)), np.array(rows)).tolist() == [winner]


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
@pytest.mark.parametrize("big", [2**24 + 1, 2**53, 1 - 2**53, 2**31])
def test_large_labels_stay_apart_and_exact(dtype, big):
    labels = np.array([big - 1, big, big], dtype)
    predicted = predict(MajorityVote(labels), np.array([[0, 1, 2], [0, 0, 1]]))
    assert predicted.tolist() == [big, big - 1]


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (np.array([0, 1, -5], np.int32), np.float32),
        (np.array([2**24], np.int32), np.float32),
        (np.array([2**24 + 1], np.int32), np.float64),
        (np.array([2**53], np.float64), np.float32),
        (np.array([2**53 - 1], np.float64), np.float64),
        (np.array([0.5]), np.float32),
        (np.array([0.1]), np.float64),
        (np.array([0.1], np.float32), np.float32),
        (np.array([1e39]), np.float64),
    ],
)
def test_labels_are_answered_in_float32_where_it_holds_them_all(labels, dtype):
    assert answer_type(labels) == dtype
    assert predict(MajorityVote(labels), np.zeros((1, 1), np.int64)).dtype == dtype


@given(labels=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), k=st.integers(1, 200), seed=st.integers(0, 99))
def test_a_regressor_gives_the_mean_or_the_median_in_float64(labels, k, seed):
    labels = np.array(labels)
    rows = np.random.default_rng(seed).integers(0, len(labels), (10, k))
    mean, median = predict(Mean(labels), rows), predict(Median(labels), rows)
    np.testing.assert_allclose(mean, labels[rows].mean(axis=1), rtol=1e-12, atol=1e-8)
    np.testing.assert_allclose(median, np.median(labels[rows], axis=1), rtol=1e-12)
    assert mean.dtype == median.dtype == np.float64


def test_the_geometric_mean_is_scipys_and_takes_positive_labels_alone():
    labels = np.array([1e-9, 2, 3, 1e12])
    rows = np.array([[0, 1, 2, 3], [1, 2, 3, 3]])
    np.testing.assert_allclose(predict(Mean(labels, geometric=True), rows), gmean(labels[rows], axis=1), rtol=1e-12)
    for label in (0.0, -1.0):
        with pytest.raises(UserError, match="positive labels"):
            Mean(np.array([1.0, label]), geometric=True)


@pytest.mark.parametrize("weights", Weights)
@pytest.mark.parametrize("k", [1, 7])
def test_votes_are_scikit_learns_on_real_data(weights, k):
    for load, estimator, vote, agree in (
        (load_digits, KNeighborsClassifier, MajorityVote, np.testing.assert_array_equal),
        (load_diabetes, KNeighborsRegressor, Mean, lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6)),
    ):
        features, labels = load(return_X_y=True)
        queries, features, labels = features[:150], features[150:], labels[150:]
        model = estimator(k, algorithm="brute", weights=weights.value).fit(features, labels)
        distances, rows = model.kneighbors(queries)
        counted = weigh(weights, Metric.L2, rows, np.square(distances).astype(np.float32))
        agree(vote(labels)(rows, counted), model.predict(queries))


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        (Metric.L2, [4, 16, 0.25], [0.5, 0.25, 2]),
        (Metric.L2, [0, 4, 0], [1, 0, 1]),
        (Metric.COSINE, [0.5, 0.75, -1], [2, 4, 0.5]),
        (Metric.COSINE, [1, 0.75, 0.5], [1, 0, 0]),
    ],
)
def test_distances_weigh_by_their_inverse_and_zero_outvotes_all(metric, values, expected):
    counted = weigh(Weights.DISTANCE, metric, np.array([[3, 1, 2]]), np.array([values], np.float32))
    np.testing.assert_allclose(counted, [expected])


@pytest.mark.parametrize("weights", Weights)
def test_a_missing_neighbour_has_no_weight(weights):
    counted = weigh(weights, Metric.L2, np.array([[5, -1], [2, -1]]), np.array([[4, 0], [0, 0]], np.float32))
    assert (counted[:, 1] == 0).all()
    assert (counted[:, 0] > 0).all()


def test_shares_of_the_classes_are_their_weights_shares():
    vote = MajorityVote(np.array([7, 5, 7], np.int32))
    rows = np.array([[0, 1, 2], [1, -1, -1]])
    assert vote.classes.tolist() == [5, 7]
    np.testing.assert_allclose(vote.shares(rows, uniform(rows)), [[1 / 3, 2 / 3], [1, 0]])
    np.testing.assert_allclose(vote.shares(rows[:1], np.array([[1.0, 6.0, 1.0]])), [[0.75, 0.25]])


@pytest.mark.parametrize(
    ("predictor_type", "aggregation", "answer"),
    [
        ("classifier", Aggregation.MEAN, 1),
        ("regressor", Aggregation.MEAN, 4),
        ("regressor", Aggregation.MEDIAN, 2),
        ("regressor", Aggregation.GEOMETRIC_MEAN, 18 ** (1 / 3)),
    ],
)
def test_each_predictor_has_its_vote(predictor_type, aggregation, answer):
    labels = np.array([1, 2, 9], np.float64)
    vote = vote_for(predictor_type, aggregation, labels)
    assert predict(vote, np.array([[2, 0, 1]]))[0] == pytest.approx(answer)


VOTES = {
    "majority": MajorityVote,
    "mean": Mean,
    "median": Median,
    "geometric mean": lambda labels: Mean(labels - labels.min() + 0.1, geometric=True),
}


def nearest_first(rng, labels, m, k):
    """Row numbers and squared distances as a search gives them: ascending, some 0, some neighbours missing."""
    rows = rng.integers(0, labels, (m, k))
    values = np.sort(rng.choice([0, 0.1, 0.3, 0.7, 1, 2, 5, 1e9], (m, k)).astype(np.float32), axis=1)
    values[::2] += np.float32(0.1)
    missing = np.arange(k) >= rng.integers(1, k + 1, m)[:, np.newaxis]
    rows[missing & (rng.random((m, 1)) < 0.5)] = -1
    return rows, values


@given(
    labels=st.lists(st.sampled_from([-2.5, 0.1, 0.2, 0.3, 1 / 3, 7, 1e6, 1e9]), min_size=1, max_size=30),
    k=st.integers(1, 24),
    seed=st.integers(0, 2**32),
    weights=st.sampled_from(Weights),
    kind=st.sampled_from(sorted(VOTES)),
)
@settings(max_examples=300)
def test_a_vote_on_prefixes_is_the_vote_of_the_nearest_to_the_last_bit(labels, k, seed, weights, kind):
    labels = np.array(labels) + np.arange(len(labels)) * (seed % 2)  # even seeds: many rows of one class
    rows, values = nearest_first(np.random.default_rng(seed), len(labels), 12, k)
    vote = VOTES[kind](labels)
    counted = weigh(weights, Metric.L2, rows, values)
    numbers = []
    for j, predicted in vote.prefixes(rows, counted):
        numbers.append(j)
        np.testing.assert_array_equal(counted[:, :j], weigh(weights, Metric.L2, rows[:, :j], values[:, :j]))
        np.testing.assert_array_equal(predicted, vote(rows[:, :j], counted[:, :j]))
        assert predicted.dtype == vote(rows, counted).dtype
    assert numbers == list(range(1, k + 1))


@pytest.mark.parametrize("kind", sorted(VOTES))
@pytest.mark.parametrize("weights", Weights)
def test_a_vote_on_many_prefixes_is_the_vote_of_the_nearest_to_the_last_bit(kind, weights):
    rng = np.random.default_rng(3)
    labels = rng.normal(size=500).round(2)
    rows, values = nearest_first(rng, len(labels), 20, 300)
    vote = VOTES[kind](labels)
    counted = weigh(weights, Metric.L2, rows, values)
    tried = dict(vote.prefixes(rows, counted))
    for j, predicted in tried.items():
        np.testing.assert_array_equal(predicted, vote(rows[:, :j], counted[:, :j]))
    assert list(tried) == sorted(tried)
    if kind == "median":
        assert list(tried)[:64] == list(range(1, 65))
        assert 100 < len(tried) <= 128
        assert max(b / a for a, b in zip(list(tried)[64:], list(tried)[65:], strict=False)) < 1.05
        assert max(tried) == 300
    else:
        assert list(tried) == list(range(1, 301))


def test_prefixes_predict_what_was_worked_out_by_hand():
    rows, labels = np.array([[0, 1, 2, 3, 4]]), np.array([5.0, 3, 3, 9, 5])
    weights = np.array([[4.0, 2, 1, 1, 0]])
    assert [it[0] for _, it in MajorityVote(labels).prefixes(rows, weights)] == [5, 5, 5, 5, 5]
    assert [it[0] for _, it in MajorityVote(labels).prefixes(rows, np.ones((1, 5)))] == [5, 3, 3, 3, 3]
    assert [it[0] for _, it in Mean(labels).prefixes(rows, weights)] == [5, 26 / 6, 29 / 7, 38 / 8, 38 / 8]
    assert [it[0] for _, it in Median(labels).prefixes(rows, np.ones((1, 5)))] == [5, 4, 3, 4, 5]


def test_prefixes_of_a_model_with_a_class_a_row_take_no_memory_for_each_class():
    vote, rows = MajorityVote(np.arange(100_000)), np.arange(4000).reshape(400, 10)
    tracemalloc.start()
    try:
        predicted = dict(vote.prefixes(rows, uniform(rows)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6  # a number for each query and class would be 320 MB
    np.testing.assert_array_equal(predicted[10], rows[:, 0])
