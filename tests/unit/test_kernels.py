"""The compiled search, with the code for every instruction set that this machine has."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knn_container import kernels
from knn_container.metric import Metric

SETS = kernels.instruction_sets()
LARGEST = float(np.finfo(np.float32).max)
F, D, L = np.float32, np.float64, np.int64
QUERIES, ROWS, VALUES, NUMBERS = np.ones((2, 3), F), np.ones((5, 3), F), np.empty((2, 4), F), np.empty((2, 4), L)


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


def search(metric, centre, queries, rows, k, *screened, packed=None, threads=1):
    values, numbers = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    kernels.search(metric.number, centre, packed, queries, rows, values, numbers, threads, *screened)
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
    centre = np.zeros(d, np.float32) if kind == "any scale" or not m else rows.mean(axis=0)
    packed = kernels.pack(metric.number, centre, rows)
    for threads in (1, 3):
        assert_found(search(metric, centre, queries, rows, k, threads=threads), expected)
        assert_found(search(metric, centre, queries, rows, k, packed=packed, threads=threads), expected)


@pytest.mark.parametrize("kind", ["normal", "ties", "ascending", "descending"])
@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize(("n", "d", "k"), [(1, 3, 1), (7, 16, 10), (200, 5, 1), (200, 40, 100), (30, 20, 1024)])
def test_searches_are_divided_among_threads(*, instructions, brute_force, kind, metric, n, d, k):
    assert instructions in SETS
    rng = np.random.default_rng(n)
    queries, rows = arrays(rng, "ties" if kind == "ties" else "normal", n, 9_000, d)
    if kind in ("ascending", "descending"):  # towards the first query: each row is nearer than all before, or further
        order = np.argsort(metric.between(queries[:1], rows)[0])
        rows = np.ascontiguousarray(rows[order[:: 1 if kind == "ascending" else -1]])
    expected = brute_force(metric, rows, queries, k)
    centre = rows.mean(axis=0)
    packed = kernels.pack(metric.number, centre, rows)
    for threads in (1, 2, 5, 64):
        assert_found(search(metric, None, queries, rows, k, threads=threads), expected)
        assert_found(search(metric, centre, queries, rows, k, threads=threads), expected)
        assert_found(search(metric, centre, queries, rows, k, packed=packed, threads=threads), expected)
        if metric is Metric.L2:
            few = [np.ascontiguousarray(table[:, : (d + 1) // 2]) for table in (queries, rows)]
            assert_found(search(metric, None, queries, rows, k, *few, threads=threads), expected)
            assert_found(search(metric, few[1].mean(axis=0), queries, rows, k, *few, threads=threads), expected)


def test_what_parts_have_noted_is_united_with_room_for_the_rounding_of_the_longest_row(instructions, brute_force):
    # The nearest rows, the last ones, are long: products cancel out, and float32 misjudges which are nearest.
    assert instructions in SETS
    rng = np.random.default_rng(0)
    half, row = rng.normal(size=(60, 45)), rng.normal(size=45)
    queries = np.hstack([half, 0.001 * row - half]).astype(np.float32)
    rows = rng.normal(size=(9_000, 90)) * 1e-6
    rows[-60:] += np.tile(row, 2)
    rows = rows.astype(np.float32)
    expected = brute_force(Metric.INNER_PRODUCT, rows, queries, 20)
    for threads in (1, 2, 5):
        found = search(Metric.INNER_PRODUCT, np.zeros(90, np.float32), queries, rows, 20, threads=threads)
        assert_found(found, expected)


def test_what_a_part_has_noted_of_long_rows_is_not_left_out_by_the_limit_of_short_ones(instructions, brute_force):
    assert instructions in SETS
    query, rows = np.zeros((1, 64), np.float32), np.zeros((9_000, 64), np.float32)
    query[0, :3] = 1
    rows[:4_500, 0], rows[4_500:, 0] = -1, -1e7
    rows[:1_000:25, 0] = 1.3
    rows[4_500:5_500:25, :3] = 1e7, 1.4, -1e7  # which float32 adds up to 1
    expected = brute_force(Metric.INNER_PRODUCT, rows, query, 20)
    assert expected[0].min() == 4_500
    for threads in (1, 2, 5):
        found = search(Metric.INNER_PRODUCT, np.zeros(64, np.float32), query, rows, 20, threads=threads)
        assert_found(found, expected)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_no_rows_are_made_up_for_queries_that_are_no_numbers(instructions, metric, number):
    # Nobody asks with them; what they must not do is read beyond the rows.
    assert instructions in SETS
    rng = np.random.default_rng(0)
    queries, rows = (rng.normal(size=(n, 4)).astype(np.float32) for n in (2, 3))
    queries[0, 1] = number
    for centre in (None, rows.mean(axis=0)):
        found, _ = search(metric, centre, queries, rows, 5)
        assert found.max() < 3
        assert set(found[1]) == {-1, 0, 1, 2}


@pytest.mark.parametrize("kind", ["line", "clusters", "grid", "heavy tails"])
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 200),
    m=st.integers(128, 3_000),
    d=st.integers(1, 8),
    k=st.sampled_from([1, 2, 10, 100, 3_000]),
    scale=st.sampled_from([1e-30, 1e-22, 1e-3, 1, 1e15]),
    origin=st.sampled_from([0, 0, 1e6]),
    huge=st.sampled_from(["none", "none", "a query", "a row"]),
)
def test_packed_rows_that_lie_along_an_axis_leave_out_no_neighbour(
    *, instructions, brute_force, kind, seed, n, m, d, k, scale, origin, huge
):
    assert instructions in SETS
    rng = np.random.default_rng(seed)
    table = {
        "line": lambda: rng.normal(size=(m, d)) * np.where(np.arange(d) == seed % d, 1000, 1),
        "clusters": lambda: rng.normal(size=(5, d))[rng.integers(0, 5, m)] + 0.01 * rng.normal(size=(m, d)),
        "grid": lambda: rng.integers(0, 4, (m, d)),
        "heavy tails": lambda: rng.standard_cauchy((m, d)) ** 3,
    }[kind]()
    rows = (scale * table + origin).astype(np.float32).clip(-1e17, 1e17)
    queries = rows[rng.integers(0, m, n)]
    moved = rng.random(n) < 0.5
    queries[moved] += (0.1 * np.abs(rows).mean() * rng.normal(size=(moved.sum(), d))).astype(np.float32)
    if huge != "none":
        (queries if huge == "a query" else rows)[0] = 1e20
    centre = np.median(rows, axis=0)
    packed = kernels.pack(Metric.L2.number, centre, rows)
    expected = brute_force(Metric.L2, rows, queries, k)
    for threads in (1, 3):
        assert_found(search(Metric.L2, centre, queries, rows, k, packed=packed, threads=threads), expected)


def test_several_searches_at_once_share_the_threads(brute_force):
    queries, rows = arrays(np.random.default_rng(1), "normal", 300, 5_000, 6)
    expected = brute_force(Metric.L2, rows, queries, 10)
    centre = rows.mean(axis=0)

    def search_often(threads):
        for _ in range(30):
            assert_found(search(Metric.L2, centre, queries, rows, 10, threads=threads), expected)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(search_often, [2, 3, 4, 2, 1, 8]))


def test_a_child_process_has_threads_of_its_own(brute_force):
    queries, rows = arrays(np.random.default_rng(2), "normal", 300, 5_000, 6)
    expected = brute_force(Metric.L2, rows, queries, 10)
    assert_found(search(Metric.L2, rows.mean(axis=0), queries, rows, 10, threads=3), expected)
    child = os.fork()
    if not child:
        try:
            assert_found(search(Metric.L2, rows.mean(axis=0), queries, rows, 10, threads=3), expected)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_no_rows_and_no_queries_are_searched(instructions):
    assert instructions in SETS
    centre = np.zeros(3, F)
    packed = kernels.pack(0, centre, np.empty((0, 3), F))
    for more in ({}, {"packed": packed}):
        numbers, _ = search(Metric.L2, centre, QUERIES, np.empty((0, 3), F), 2, **more)
        assert numbers.tolist() == [[-1, -1], [-1, -1]]
    assert search(Metric.L2, centre, np.empty((0, 3), F), ROWS, 2, threads=2)[0].shape == (0, 2)


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
    kernels.search_listed(metric.number, listed, queries, rows, values, numbers, 1 + seed % 3)
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


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((3, None, None, QUERIES, ROWS, VALUES, NUMBERS, 1), "metric: expected 0 to 2, got 3"),
        (
            (0, None, None, QUERIES.astype(D), ROWS, VALUES, NUMBERS, 1),
            "queries: expected 2 dimensions of float32, got 2 of format 'd'",
        ),
        (
            (0, None, None, QUERIES, ROWS.astype(np.int32), VALUES, NUMBERS, 1),
            "rows: expected 2 dimensions of float32, got 2 of format 'i'",
        ),
        ((0, None, None, QUERIES, ROWS.astype(">f4"), VALUES, NUMBERS, 1), "rows: expected .* got 2 of format '>f'"),
        ((9, None, None, QUERIES, ROWS, VALUES, NUMBERS, "x"), "metric: expected 0 to 2, got 9"),
        (
            (0, None, None, QUERIES[0], ROWS, VALUES, NUMBERS, 1),
            "queries: expected 2 dimensions of float32, got 1 of format 'f'",
        ),
        ((0, None, None, QUERIES, ROWS[:, :2].copy(), VALUES, NUMBERS, 1), "rows of as many columns"),
        ((0, None, None, np.ones((2, 0), F), np.ones((5, 0), F), VALUES, NUMBERS, 1), "rows of as many columns"),
        ((0, None, None, QUERIES, ROWS, VALUES[:1], NUMBERS, 1), "arrays of one shape"),
        ((0, None, None, QUERIES, ROWS, VALUES, NUMBERS[:, :3].copy(), 1), "arrays of one shape"),
        ((0, None, None, QUERIES, ROWS, np.empty((2, 0), F), np.empty((2, 0), L), 1), "arrays of one shape"),
        (
            (0, None, None, QUERIES, ROWS, VALUES, NUMBERS.astype(np.int32), 1),
            "numbers: expected 2 dimensions of int64, got 2 of format 'i'",
        ),
        ((0, None, None, QUERIES, ROWS, VALUES, NUMBERS, 0), "expected a thread at least"),
        ((0, np.ones(2, F), None, QUERIES, ROWS, VALUES, NUMBERS, 1), "a centre of as many columns"),
        ((0, None, None, QUERIES, ROWS, VALUES, NUMBERS, 1, QUERIES, ROWS[:4]), "as many screened queries and rows"),
        ((0, None, None, QUERIES, ROWS, VALUES, NUMBERS, 1, QUERIES[:1], ROWS), "as many screened queries and rows"),
        ((0, None, None, QUERIES, ROWS, VALUES, NUMBERS), "expected 8 or 10 arguments, got 7"),
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
        kernels.search_listed(0, np.array(listed), QUERIES, ROWS, VALUES, NUMBERS, 1)


def test_what_is_not_contiguous_or_not_to_be_written_is_refused():
    for queries, values in ((np.ones((2, 6), F)[:, ::2], VALUES), (QUERIES, np.broadcast_to(F(0), (2, 4)))):
        with pytest.raises((BufferError, ValueError), match=r"contiguous|read-only"):
            kernels.search(0, None, None, queries, ROWS, values, NUMBERS, 1)
    with pytest.raises(ValueError, match="expected rows for all queries or for each"):
        kernels.compare(0, QUERIES, ROWS, VALUES)


@pytest.mark.parametrize(
    ("metric", "centre", "rows"),
    [
        (1, np.zeros(3, F), ROWS),
        (0, np.ones(3, F), ROWS),
        (0, None, ROWS),
        (0, np.zeros(3, F), ROWS[:4]),
        (0, np.zeros(2, F), ROWS[:, :2].copy()),
    ],
)
def test_rows_that_were_packed_for_another_search_are_refused(metric, centre, rows):
    packed = kernels.pack(0, np.zeros(3, F), ROWS)
    queries, values, numbers = np.ones((2, rows.shape[1]), F), np.empty((2, 1), F), np.empty((2, 1), L)
    with pytest.raises(ValueError, match="expected rows that were packed for this search"):
        kernels.search(metric, centre, packed, queries, rows, values, numbers, 1)
    with pytest.raises(ValueError, match="PyCapsule"):
        kernels.search(metric, centre, "rows", queries, rows, values, numbers, 1)


def test_rows_packed_for_another_instruction_set_do_no_harm(brute_force):
    queries, rows = arrays(np.random.default_rng(3), "normal", 20, 500, 6)
    centre = rows.mean(axis=0)
    packed = kernels.pack(0, centre, rows)
    kernels.use(SETS[-1])
    try:
        found = search(Metric.L2, centre, queries, rows, 10, packed=packed)
    finally:
        kernels.use(SETS[0])
    assert_found(found, brute_force(Metric.L2, rows, queries, 10))


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
        kernels.search(0, None, None, QUERIES, ROWS, odd, NUMBERS, 1)


def test_rows_of_many_tiny_numbers_are_compared_in_float64(instructions, brute_force):
    """A row's length is dominated by 16 numbers, and each square of the others rounds up where it is added to theirs,
    while each product with the query's rounds down."""
    assert instructions in SETS
    d, large = 8192, F(np.sqrt(1.0005e-30 / 16))
    tiny = np.sqrt(1.02 * 2.0 ** (np.floor(np.log2(float(large) ** 2)) - 24))
    row, query = np.full(d, tiny, F), np.full(d, 0.98 * 2.0 ** (np.floor(np.log2(float(large))) - 24) / tiny, F)
    row[:16], query[:16] = large, 1
    wide = query.astype(np.float64)
    apart = np.zeros(d)
    apart[:2] = np.linalg.norm(wide) * np.tan(np.arccos(1 - 1e-5)) / np.sqrt([2, 2]) * [1, -1]
    rows, queries = np.stack([(wide + apart).astype(F), row]), query[np.newaxis]
    expected = brute_force(Metric.COSINE, rows, queries, 1)
    assert expected[0].tolist() == [[1]]
    for centre in (None, np.zeros(d, F)):
        assert_found(search(Metric.COSINE, centre, queries, rows, 1), expected)


@pytest.mark.parametrize("d", [128, 129, 256, 1030, 5000])
@pytest.mark.parametrize("metric", Metric)
def test_long_rows_are_summed_in_parts(*, instructions, brute_force, metric, d):
    assert instructions in SETS
    queries, rows = arrays(np.random.default_rng(d), "far off", 40, 90, d)
    expected = brute_force(metric, rows, queries, 5)
    assert_found(search(metric, None, queries, rows, 5), expected)
    assert_found(search(metric, rows.mean(axis=0), queries, rows, 5), expected)
