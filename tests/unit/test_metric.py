import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from knn_container.metric import Metric, nearest, row_lengths, unit_rows

LARGEST = float(np.finfo(np.float32).max)
NUMBERS = st.floats(-(2.0**50), 2.0**50, width=32)
ROWS = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(5)), elements=NUMBERS)


def exactly(metric: Metric, query, row) -> Fraction:
    pairs = [(Fraction(float(a)), Fraction(float(b))) for a, b in zip(query, row, strict=True)]
    return sum(((a - b) ** 2 for a, b in pairs) if metric is Metric.L2 else (a * b for a, b in pairs))


@given(queries=ROWS, rows=ROWS)
def test_squared_distances_are_the_exact_ones_rounded_once(queries, rows):
    values = Metric.L2.between(queries, rows)
    for query, row_values in zip(queries, values, strict=True):
        exact = [float(exactly(Metric.L2, query, row)) for row in rows]
        # float64's own rounding can tip a value that lies between two float32 numbers: one unit in the last place.
        np.testing.assert_array_max_ulp(row_values, np.array(exact, np.float32), 1)


@given(queries=ROWS, rows=ROWS)
def test_inner_products_are_within_float64s_rounding_of_the_exact_ones(queries, rows):
    values = Metric.INNER_PRODUCT.between(queries, rows).astype(np.float64)
    for query, row_values in zip(queries, values, strict=True):
        for row, value in zip(rows, row_values, strict=True):
            exact = float(exactly(Metric.INNER_PRODUCT, query, row))
            size = math.sqrt(exactly(Metric.INNER_PRODUCT, query, query) * exactly(Metric.INNER_PRODUCT, row, row))
            # Half a unit of float32 (2^-150 below its normal numbers), and float64's error in a sum of five.
            assert abs(value - exact) <= 2**-24 * abs(exact) + 1e-14 * size + 2.0**-149


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 100, 130])
def test_cosines_are_scipys(columns):
    rng = np.random.default_rng(columns)
    queries, rows = rng.normal(size=(9, columns)).astype("f4"), rng.normal(size=(40, columns)).astype("f4")
    expected = 1 - cdist(queries.astype("f8"), rows.astype("f8"), "cosine")
    np.testing.assert_allclose(Metric.COSINE.between(queries, rows), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("columns", [1, 3, 8, 54, 129])
def test_a_querys_values_do_not_depend_on_the_queries_and_rows_beside_it(metric, columns):
    rng = np.random.default_rng(columns)
    queries, rows = rng.normal(size=(50, columns)).astype("f4"), rng.normal(size=(70, columns)).astype("f4")
    together = metric.between(queries, rows)
    one_by_one = [[metric.between(query[None], row[None])[0, 0] for row in rows] for query in queries]
    own_rows = metric.between(queries, np.repeat(rows[None], 50, axis=0))
    np.testing.assert_array_equal(together, one_by_one)
    np.testing.assert_array_equal(together, own_rows)


@pytest.mark.parametrize(
    ("metric", "query", "row", "value"),
    [
        (Metric.L2, [1, 2], [4, 6], 25),
        (Metric.L2, [1e25, 0], [-1e25, 0], LARGEST),
        (Metric.L2, [1e-25, 0], [-1e-25, 0], 0),
        (Metric.L2, [16777216, 1], [16777215, 0], 2),
        (Metric.INNER_PRODUCT, [1, 2], [4, 6], 16),
        (Metric.INNER_PRODUCT, [1e25, 0], [1e25, 0], LARGEST),
        (Metric.INNER_PRODUCT, [1e25, 0], [-1e25, 0], -LARGEST),
        (Metric.INNER_PRODUCT, [3e7, 1, -3e7], [3e7, 1, 3e7], 1),
        (Metric.COSINE, [3, 4], [4, 3], 0.96),
        (Metric.COSINE, [1e25, 0], [-1e-25, 0], -1),
        (Metric.COSINE, [LARGEST, LARGEST], [LARGEST, LARGEST], 1),
        (Metric.COSINE, [0, 0], [1, 2], 0),
        (Metric.COSINE, [1, 2], [0, 0], 0),
        (Metric.COSINE, [0, 0], [0, 0], 0),
    ],
)
def test_values_worked_out_by_hand(metric, query, row, value):
    found = metric.between(np.array([query], np.float32), np.array([row], np.float32))
    assert found.dtype == np.float32
    assert found.tolist() == [[float(np.float32(value))]]


@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.COSINE])
def test_no_value_is_negative_zero(metric):
    values = metric.between(np.array([[-1, 0]], np.float32), np.array([[0, 1], [1e-45, 1]], np.float32))
    assert values[0, 0] == 0
    assert not np.signbit(values[0, 0])


def test_only_l2_is_not_a_similarity():
    assert [metric for metric in Metric if not metric.is_similarity] == [Metric.L2]


def test_row_lengths_are_euclidean_in_float64():
    rows = np.array([[3, 4], [0, 0], [LARGEST, LARGEST], [1e-30, 0]], np.float32)
    expected = [5, 0, LARGEST * math.sqrt(2), float(np.float32(1e-30))]
    np.testing.assert_allclose(row_lengths(rows), expected, rtol=1e-15)


@given(hnp.arrays(np.float32, (4, 3), elements=st.floats(-LARGEST, LARGEST, width=32)))
def test_unit_rows_have_length_one_and_zero_rows_stay_zero(rows):
    lengths = np.sqrt(np.square(unit_rows(rows).astype(np.float64)).sum(axis=1))
    zero = (rows == 0).all(axis=1)
    np.testing.assert_allclose(lengths[~zero], 1, rtol=2e-7)
    assert (lengths[zero] == 0).all()


def test_unit_rows_are_rounded_once():
    rows = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    wide = rows.astype(np.longdouble)
    expected = (wide / np.sqrt(np.square(wide).sum(axis=1, keepdims=True))).astype(np.float32)
    np.testing.assert_array_equal(unit_rows(rows), expected)


@pytest.mark.parametrize(
    ("metric", "kept"),
    [(Metric.L2, ([1, 1, 2], [3, 7, 5])), (Metric.INNER_PRODUCT, ([4, 2, 1], [9, 5, 3]))],
)
def test_nearest_orders_by_value_then_by_row_and_puts_missing_rows_last(metric, kept):
    values = np.array([[2, 1, 0, 1, 4]], np.float32)
    rows = np.array([[5, 7, -1, 3, 9]])
    found_values, found_rows = nearest(metric, values, rows, 3)
    assert (found_values[0].tolist(), found_rows[0].tolist()) == kept
    assert nearest(metric, values, rows, 5)[1][0, -1] == -1
