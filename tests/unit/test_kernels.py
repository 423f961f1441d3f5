"""The compiled search, with the code for every instruction set that this machine has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knn_container import kernels
from knn_container.metric import Metric

SETS = kernels.instruction_sets()
LARGEST = float(np.finfo(np.float32).max)


@pytest.fixture(params=SETS, scope="module")
def instructions(request):
    kernels.use(request.param)
    yield request.param
    kernels.use(SETS[0])


def arrays(rng, kind, n, m, d):
    scale = {
        "normal": lambda size: rng.normal(size=size),
        "far off": lambda size: rng.normal(1000, 10, size),
        "ties": lambda size: rng.integers(0, 2, size),
        "any scale": lambda size: rng.normal(size=size) * 10.0 ** rng.integers(-38, 38, size),
    }[kind]
    return scale((n, d)).astype(np.float32), scale((m, d)).astype(np.float32)


def search(metric, centre, queries, rows, k, *more):
    values, numbers = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    kernels.search(metric.number, centre, queries, rows, values, numbers, 0, *more)
    return numbers, values


def assert_found(found, expected):
    there = expected[0] >= 0
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1][there], expected[1][there])


@pytest.mark.parametrize("kind", ["normal", "far off", "ties", "any scale"])
@pytest.mark.parametrize("metric", Metric)
@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(0, 70),
    m=st.integers(0, 400),
    d=st.integers(1, 300),
    k=st.integers(1, 60),
)
def test_every_instruction_set_finds_what_brute_force_finds(
    *, instructions, brute_force, kind, metric, seed, n, m, d, k
):
    assert instructions in SETS
    queries, rows = arrays(np.random.default_rng(seed), kind, n, m, d)
    expected = brute_force(metric, rows, queries, k)
    assert_found(search(metric, None, queries, rows, k), expected)
    assert_found(search(metric, np.zeros(d, np.float32), queries, rows, k), expected)
    if kind != "any scale" and m:
        assert_found(search(metric, rows.mean(axis=0), queries, rows, k), expected)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 40), d=st.integers(2, 200), k=st.integers(1, 20))
def test_rows_are_left_out_by_what_is_screened_of_them_only_where_that_is_certain(
    instructions, brute_force, seed, n, d, k
):
    assert instructions in SETS
    queries, rows = arrays(np.random.default_rng(seed), "far off", n, 300, d)
    expected = brute_force(Metric.L2, rows, queries, k)
    few = [
        np.ascontiguousarray(table[:, : d // 2]) for table in (queries, rows)
    ]  # never further apart than all columns
    assert_found(search(Metric.L2, None, queries, rows, k, *few), expected)
    assert_found(search(Metric.L2, few[1].mean(axis=0), queries, rows, k, *few), expected)


@pytest.mark.parametrize("metric", Metric)
def test_what_is_screened_of_them_decides_which_rows_are_looked_at(instructions, metric):
    assert instructions in SETS
    rng = np.random.default_rng(0)
    queries, rows = arrays(rng, "normal", 1, 300, 8)
    rows[50:] = queries
    lie = rows.copy()
    lie[50:] = 1000
    if metric is not Metric.L2:
        with pytest.raises(ValueError, match="expected L2"):
            search(metric, None, queries, rows, 5, queries, lie)
        return
    for centre in (None, np.zeros(8, np.float32)):
        assert search(metric, centre, queries, rows, 5)[0].min() == 50
        assert search(metric, centre, queries, rows, 5, queries, lie)[0].max() < 50


@pytest.mark.parametrize("metric", Metric)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 20), m=st.integers(1, 60), d=st.integers(1, 300))
def test_listed_rows_are_ordered_as_brute_force_orders_them(*, instructions, brute_force, metric, seed, n, m, d):
    assert instructions in SETS
    rng = np.random.default_rng(seed)
    queries, rows = arrays(rng, "ties" if seed % 2 else "any scale", n, 100, d)
    listed = np.array([rng.permutation(100)[:m] for _ in range(n)])
    listed[rng.random(listed.shape) < 0.2] = -1
    values, numbers = np.empty((n, 7), np.float32), np.empty((n, 7), np.int64)
    kernels.search_listed(metric.number, listed, queries, rows, values, numbers)
    for i in range(n):
        own = np.sort(listed[i][listed[i] >= 0])
        places, expected = brute_force(metric, rows[own], queries[i : i + 1], 7)
        there = places[0] >= 0
        assert numbers[i].tolist() == [own[place] if place >= 0 else -1 for place in places[0]]
        np.testing.assert_array_equal(values[i][there], expected[0][there])


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("d", [1, 7, 8, 9, 127, 128, 129, 255, 784, 1037])
def test_sums_are_numpys(instructions, metric, d):
    assert instructions in SETS
    queries, rows = arrays(np.random.default_rng(d), "normal", 5, 40, d)
    wide, other = queries.astype(np.float64)[:, np.newaxis], rows.astype(np.float64)
    values = np.square(other - wide).sum(axis=2) if metric is Metric.L2 else (other * wide).sum(axis=2)
    if metric is Metric.COSINE:
        values /= np.sqrt(np.square(other).sum(axis=1)) * np.sqrt(np.square(wide).sum(axis=2))
    np.testing.assert_array_equal(metric.between(queries, rows), values.astype(np.float32))
    own = np.stack([rows[i : i + 7] for i in range(5)])
    each = [values[i, i : i + 7].astype(np.float32) for i in range(5)]
    np.testing.assert_array_equal(metric.between(queries, own), each)


def test_numbers_of_rows_begin_where_they_are_told_to():
    rows = np.arange(6, dtype=np.float32)[:, np.newaxis]
    values, numbers = np.empty((1, 2), np.float32), np.empty((1, 2), np.int64)
    kernels.search(0, None, rows[:1], rows, values, numbers, 2**32 - 7)
    assert numbers.tolist() == [[2**32 - 7, 2**32 - 6]]
    assert values.tolist() == [[0, 1]]


F, D, L = np.float32, np.float64, np.int64
QUERIES, ROWS, VALUES, NUMBERS = np.ones((2, 3), F), np.ones((5, 3), F), np.empty((2, 4), F), np.empty((2, 4), L)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((3, None, QUERIES, ROWS, VALUES, NUMBERS, 0), "metric: expected 0 to 2, got 3"),
        (
            (0, None, QUERIES.astype(D), ROWS, VALUES, NUMBERS, 0),
            "queries: expected 2 dimensions of float32, got 2 of format 'd'",
        ),
        (
            (0, None, QUERIES, ROWS.astype(np.int32), VALUES, NUMBERS, 0),
            "rows: expected 2 dimensions of float32, got 2 of format 'i'",
        ),
        ((0, None, QUERIES, ROWS.astype(">f4"), VALUES, NUMBERS, 0), "rows: expected .* got 2 of format '>f'"),
        ((9, None, QUERIES, ROWS, VALUES, NUMBERS, "x"), "metric: expected 0 to 2, got 9"),
        (
            (0, None, QUERIES[0], ROWS, VALUES, NUMBERS, 0),
            "queries: expected 2 dimensions of float32, got 1 of format 'f'",
        ),
        ((0, None, QUERIES, ROWS[:, :2].copy(), VALUES, NUMBERS, 0), "rows of as many columns"),
        ((0, None, np.ones((2, 0), F), np.ones((5, 0), F), VALUES, NUMBERS, 0), "rows of as many columns"),
        ((0, None, QUERIES, ROWS, VALUES[:1], NUMBERS, 0), "arrays of one shape"),
        ((0, None, QUERIES, ROWS, VALUES, NUMBERS[:, :3].copy(), 0), "arrays of one shape"),
        ((0, None, QUERIES, ROWS, np.empty((2, 0), F), np.empty((2, 0), L), 0), "arrays of one shape"),
        (
            (0, None, QUERIES, ROWS, VALUES, NUMBERS.astype(np.int32), 0),
            "numbers: expected 2 dimensions of int64, got 2 of format 'i'",
        ),
        ((0, None, QUERIES, ROWS, VALUES, NUMBERS, 2**32), "fewer than 2\\^32 rows"),
        ((0, None, QUERIES, ROWS, VALUES, NUMBERS, -1), "fewer than 2\\^32 rows"),
        ((0, np.ones(2, F), QUERIES, ROWS, VALUES, NUMBERS, 0), "a centre of as many columns"),
        ((0, None, QUERIES, ROWS, VALUES, NUMBERS, 0, QUERIES, ROWS[:4]), "as many screened queries and rows"),
        ((0, None, QUERIES, ROWS, VALUES, NUMBERS, 0, QUERIES[:1], ROWS), "as many screened queries and rows"),
        ((0, None, QUERIES, ROWS, VALUES, NUMBERS), "expected 7 or 9 arguments, got 6"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arguments, complaint):
    with pytest.raises((ValueError, TypeError), match=complaint):
        kernels.search(*arguments)


@pytest.mark.parametrize(
    ("listed", "complaint"),
    [([[0, 5], [0, 0]], "numbers of rows that there are"), ([[0, 1]], "a list of rows for each query")],
)
def test_lists_that_do_not_fit_are_refused(listed, complaint):
    with pytest.raises(ValueError, match=complaint):
        kernels.search_listed(0, np.array(listed), QUERIES, ROWS, VALUES, NUMBERS)


def test_what_is_not_contiguous_or_not_to_be_written_is_refused():
    for queries, values in ((np.ones((2, 6), F)[:, ::2], VALUES), (QUERIES, np.broadcast_to(F(0), (2, 4)))):
        with pytest.raises((BufferError, ValueError), match=r"contiguous|read-only"):
            kernels.search(0, None, queries, ROWS, values, NUMBERS, 0)
    with pytest.raises(ValueError, match="expected rows for all queries or for each"):
        kernels.compare(0, QUERIES, ROWS, VALUES)


def test_an_instruction_set_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected an instruction set of this machine, got 'abacus'"):
        kernels.use("abacus")
    assert SETS[-1] == "any"


def test_values_beyond_float32_tie_at_its_largest_number(instructions):
    assert instructions in SETS
    rows = np.array([[3e38], [-3e38], [1]], F)
    query = np.array([[-3e38]], F)
    for centre in (None, np.zeros(1, F)):
        numbers, values = search(Metric.L2, centre, query, rows, 3)
        assert numbers.tolist() == [[1, 0, 2]]
        assert values.tolist() == [[0, LARGEST, LARGEST]]


def test_what_is_filled_is_aligned():
    odd = np.zeros(33, np.uint8)[1:].view(F).reshape(2, 4)
    with pytest.raises(ValueError, match="values: expected an aligned array"):
        kernels.search(0, None, QUERIES, ROWS, odd, NUMBERS, 0)


@pytest.mark.parametrize("d", [128, 129, 256, 1030, 5000])
@pytest.mark.parametrize("metric", Metric)
def test_long_rows_are_summed_in_parts(*, instructions, brute_force, metric, d):
    assert instructions in SETS
    queries, rows = arrays(np.random.default_rng(d), "far off", 40, 90, d)
    expected = brute_force(metric, rows, queries, 5)
    assert_found(search(metric, None, queries, rows, 5), expected)
    assert_found(search(metric, rows.mean(axis=0), queries, rows, 5), expected)
