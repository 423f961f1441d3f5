"""`ExactSearch` against brute force, over data on which float32 arithmetic goes wrong."""

import concurrent.futures
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest.mock import patch

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knn_container.metric import Metric
from knn_container.search import certified, trial
from knn_container.search.engines import ENGINES, KD_TREE
from knn_container.search.exact import AUTO, ExactSearch
from knn_container.search.threads import spread


def _heavy_row(rng, n, d):
    rows = rng.uniform(0, 15, (n, d))
    rows[n // 2] = 1e9
    return rows


def _heavy_column(rng, n, d):
    rows = rng.uniform(0, 1, (n, d))
    rows[:, 0] = 10 ** rng.uniform(0, 7, n)
    return rows


def _half_zero(rng, n, d):
    rows = rng.normal(size=(n, d))
    rows[rng.random(n) < 0.5] = 0
    return rows


KINDS = {
    "normal": lambda rng, n, d: rng.normal(size=(n, d)),
    "integer grid": lambda rng, n, d: rng.integers(0, 3, (n, d)),
    "duplicates": lambda rng, n, d: rng.normal(size=(7, d))[rng.integers(0, 7, n)],
    "off origin": lambda rng, n, d: rng.normal(1000, 10, (n, d)),
    "heavy row": _heavy_row,
    "heavy column": _heavy_column,
    "huge": lambda rng, n, d: rng.normal(size=(n, d)) * 1e25,
    "tiny": lambda rng, n, d: rng.normal(size=(n, d)) * 1e-25,
    "huge and small": lambda rng, n, d: rng.normal(size=(n, d)) * np.where(rng.random((n, 1)) < 0.98, 1e25, 1),
    "zero vectors": _half_zero,
}


def make_rows(kind: str, rng: np.random.Generator, n: int, d: int):
    return KINDS[kind](rng, n, d).astype(np.float32)


def search_in(rows, metric: Metric, engine: str = AUTO) -> ExactSearch:
    index = faiss.IndexFlat(rows.shape[1], faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT)
    index.add(rows)
    return ExactSearch(index, metric, engine)


def assert_same(found, expected):
    rows, values = expected
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.values[rows >= 0], values[rows >= 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", Metric)
@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 3000),
    d=st.integers(1, 100),
    k=st.one_of(st.integers(1, 40), st.integers(1, 1024)),
    asked=st.integers(1, 16),
)
def test_exact_search_equals_brute_force(*, brute_force, kind, metric, seed, n, d, k, asked):
    rng = np.random.default_rng(seed)
    rows = make_rows(kind, rng, n, d)
    strangers = make_rows(kind, rng, asked, d)
    queries = np.concatenate([strangers, rows[rng.integers(0, n, asked)], np.zeros((1, d), np.float32)])
    assert_same(search_in(rows, metric)(queries, k), brute_force(metric, rows, queries, k))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", Metric)
@settings(max_examples=5)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(200, 3000),
    d=st.integers(1, 60),
    k=st.one_of(st.integers(1, 40), st.integers(1, 1024)),
    asked=st.integers(1, 16),
    threads=st.sampled_from([1, 2, 8]),
)
def test_every_engine_gives_the_same_answers(*, brute_force, kind, engine, metric, seed, n, d, k, asked, threads):
    rng = np.random.default_rng(seed)
    rows = make_rows(kind, rng, n, d)
    queries = np.concatenate([make_rows(kind, rng, asked, d), rows[:asked], np.zeros((1, d), np.float32)])
    search = search_in(rows, metric, engine)
    assert_same(search(queries, k), brute_force(metric, rows, queries, k))
    assert_same(search(queries[:1], k), brute_force(metric, rows, queries[:1], k))
    with patch.object(faiss, "omp_get_max_threads", lambda: threads):
        assert_same(search(queries[::2], k), brute_force(metric, rows, queries[::2], k))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", Metric)
def test_many_queries_among_many_rows_are_answered_as_by_brute_force(brute_force, engine, metric):
    rng = np.random.default_rng(7)
    table = _few_directions(rng, 30_300) + rng.normal(0, 0.01, (30_300, 30)).astype(np.float32)
    search = search_in(table[:30_000], metric, engine)
    assert_same(search(table[30_000:], 10), brute_force(metric, table[:30_000], table[30_000:], 10))


def _few_directions(rng, n, d=30):
    """Rows of `d` columns in a space of 3 dimensions."""
    return (rng.normal(size=(n, 3)) @ rng.normal(size=(3, d))).astype(np.float32)


def _engines_in_use(search):
    return {engine.name for _, *engines in search._plan for engine in engines}


@pytest.mark.parametrize("metric", [Metric.L2, Metric.COSINE])
def test_a_tree_is_built_where_it_pays(metric, brute_force):
    rng = np.random.default_rng(0)
    rows = _few_directions(rng, 60_020)
    rows, queries = rows[:60_000], rows[60_000:]
    search = search_in(rows, metric)
    before = search(queries, 10)
    search.speed_up(10**9)
    assert KD_TREE in {timing.engine for timing in search.timings}
    assert_same(search(queries, 10), (before.rows, before.values))
    assert_same(search(queries[:1], 10), (before.rows[:1], before.values[:1]))


@pytest.mark.parametrize(
    ("rows", "metric", "engine", "room"),
    [
        ("uniform", Metric.L2, AUTO, 10**9),  # it does not pay
        ("few directions", Metric.L2, AUTO, 1000),  # there is no memory for it
        ("few directions", Metric.INNER_PRODUCT, AUTO, 10**9),  # it knows no such distance
        ("few directions", Metric.L2, "scan", 10**9),  # another was asked for
    ],
)
def test_nothing_is_built_where_it_cannot_pay_or_is_not_wanted(rows, metric, engine, room):
    rng = np.random.default_rng(0)
    table = rng.random((20_000, 100), np.float32) if rows == "uniform" else _few_directions(rng, 20_000)
    search = search_in(table, metric, engine)
    search.speed_up(room, queries=10**9)
    assert _engines_in_use(search) <= {"scan", "products"}


def test_projections_are_built_where_rows_have_few_strong_directions(brute_force):
    rng = np.random.default_rng(1)
    strong = rng.normal(size=(20_050, 40)) @ rng.normal(size=(40, 600))
    table = (strong + rng.normal(size=(20_050, 600))).astype(np.float32)
    search = search_in(table[:20_000], Metric.L2)
    search.speed_up(10**9, queries=10**9)
    assert "projections" in {timing.engine for timing in search.timings}
    assert_same(search(table[20_000:], 100), brute_force(Metric.L2, table[:20_000], table[20_000:], 100))
    assert_same(search(table[20_000:], 10), brute_force(Metric.L2, table[:20_000], table[20_000:], 10))


@pytest.mark.parametrize("metric", Metric)
def test_a_trial_times_every_batch_and_says_what_it_chose(metric, caplog):
    table = np.random.default_rng(0).random((5000, 20), np.float32)
    search = search_in(table, metric)
    assert search.timings == ()
    with caplog.at_level("INFO"):
        search.speed_up(0, queries=1)
    chosen = [timing for timing in search.timings if timing.chosen]
    assert [timing.queries for timing in chosen] == [1, 16, 256]
    assert all(timing.seconds > 0 for timing in search.timings)
    for timing in chosen:
        same = [other.seconds for other in search.timings if other.queries == timing.queries]
        assert timing.seconds == min(same)
    *figures, last = caplog.messages[-4:]
    for message, timing in zip(figures, chosen, strict=True):
        assert message.startswith(f"Exact search of {timing.queries} queries: ")
        assert f"{timing.engine} {1000 * timing.seconds:.2f} ms" in message
        assert message.endswith(f"; taking {timing.engine}.")
    assert last.startswith("Exact search:")
    assert last.endswith("settled.")


def test_what_can_search_at_once_is_compared_before_anything_is_built():
    search = search_in(_few_directions(np.random.default_rng(0), 60_000), Metric.L2)
    search.compare()
    compared = search.timings
    assert {timing.engine for timing in compared} == {"products", "scan"}
    search.speed_up(10**9)
    assert KD_TREE in _engines_in_use(search)
    seconds = {(timing.engine, timing.queries): timing.seconds for timing in search.timings}
    assert all(seconds[timing.engine, timing.queries] == timing.seconds for timing in compared)


def test_rows_are_freed_with_their_search_without_a_collection_of_garbage():
    search = search_in(np.random.default_rng(0).random((5_000, 20), np.float32), Metric.L2)
    search.speed_up(10**9, queries=10**9)
    gone = weakref.ref(search)
    gc.disable()
    del search
    gc.enable()
    assert gone() is None


def test_a_tree_for_few_queries_is_not_built():
    search = search_in(_few_directions(np.random.default_rng(0), 60_000), Metric.L2)
    search.speed_up(10**9, queries=10)
    assert KD_TREE not in _engines_in_use(search)


@pytest.mark.parametrize("metric", Metric)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 40), more=st.integers(0, 30))
def test_missing_neighbours_are_minus_one_and_last(metric, seed, n, more):
    rows = make_rows("normal", np.random.default_rng(seed), n, 3)
    found = search_in(rows, metric)(rows, n + more).rows
    np.testing.assert_array_equal(np.sort(found[:, :n]), np.tile(np.arange(n), (n, 1)))
    assert (found[:, n:] == -1).all()


@pytest.mark.parametrize("k", [1, 10, 1024])
@pytest.mark.parametrize("kind", ["integer grid", "off origin", "heavy row", "heavy column"])
@pytest.mark.parametrize("metric", Metric)
def test_a_query_alone_finds_what_it_finds_in_a_batch_of_1000(metric, kind, k):
    rng = np.random.default_rng(k)
    rows, queries = make_rows(kind, rng, 1500, 54), make_rows(kind, rng, 1000, 54)
    search = search_in(rows, metric)
    together = search(queries, k)
    for i in range(0, 1000, 97):
        assert_same(search(queries[i : i + 1], k), (together.rows[i : i + 1], together.values[i : i + 1]))


@pytest.mark.parametrize("metric", Metric)
def test_threads_at_once_find_what_one_finds(brute_force, metric):
    rng = np.random.default_rng(1)
    rows, queries = make_rows("off origin", rng, 1000, 20), make_rows("off origin", rng, 120, 20)
    search = search_in(rows, metric)
    numbers, values = brute_force(metric, rows, queries, 10)
    parts = [slice(start, start + size) for size in (1, 7, 20) for start in range(0, 120, size)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda part: search(queries[part], 10), parts))
    for part, answer in zip(parts, answers, strict=True):
        assert_same(answer, (numbers[part], values[part]))


def test_the_order_of_equal_neighbours_is_that_of_their_rows():
    rows = np.array([[2, 0], [0, 1], [1, 0], [0, 1], [1, 0]], np.float32)
    found = search_in(rows, Metric.L2)(np.zeros((1, 2), np.float32), 5)
    assert found.rows.tolist() == [[1, 2, 3, 4, 0]]
    assert found.values.tolist() == [[1, 1, 1, 1, 4]]


@pytest.mark.parametrize(
    ("metric", "rows", "values"),
    [
        (Metric.L2, [0, 1, 2], [0, 1, 9]),
        (Metric.INNER_PRODUCT, [2, 1, 0], [12, 6, 3]),
        (Metric.COSINE, [1, 2, 0], [1, 1, 0.6]),
    ],
)
def test_values_are_squared_distances_or_similarities_from_the_nearest_on(metric, rows, values):
    # Products with the query (3, 0); the second and third rows point where it points, the first does not.
    table = {
        Metric.L2: [[3, 0], [3, 1], [0, 0]],
        Metric.INNER_PRODUCT: [[1, 5], [2, 0], [4, 0]],
        Metric.COSINE: [[3, 4], [2, 0], [4, 0]],
    }[metric]
    found = search_in(np.array(table, np.float32), metric)(np.array([[3, 0]], np.float32), 3)
    assert found.rows.tolist() == [rows]
    np.testing.assert_array_equal(found.values, np.array([values], np.float32))


@pytest.mark.parametrize("metric", Metric)
def test_no_query_gives_an_empty_answer(metric):
    found = search_in(np.ones((4, 2), np.float32), metric)(np.empty((0, 2), np.float32), 3)
    assert found.rows.shape == found.values.shape == (0, 3)


def _two_clouds_far_apart():
    rng = np.random.default_rng(3)
    sides = rng.choice([-4000, 4000], (20_400, 1))
    table = (sides + rng.normal(0, 10, (20_400, 54))).astype(np.float32)
    return table[:20_000], table[20_000:]


def _rows_one_ulp_apart():
    rng = np.random.default_rng(4)
    rows = np.tile(rng.uniform(1, 2, 64).astype(np.float32), (3000, 1))
    up = rng.random(rows.shape) < 0.5
    rows[up] = np.nextafter(rows[up], np.float32(2))
    return rows, np.zeros((4, 64), np.float32)


@pytest.mark.parametrize("near_ties", [_two_clouds_far_apart, _rows_one_ulp_apart])
@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "kd_tree"])
def test_what_float32_cannot_tell_apart_is_told_apart(brute_force, near_ties, engine):
    rows, queries = near_ties()
    expected = brute_force("L2", rows, queries, 10)
    assert_same(search_in(rows, Metric.L2, engine)(queries, 10), expected)
    in_float32 = np.square(rows).sum(axis=1) - 2 * (queries @ rows.T)
    assert not np.array_equal(in_float32.argsort(axis=1, kind="stable")[:, :10], expected[0])


def test_data_far_from_the_origin_are_searched_exactly(brute_force):
    rng = np.random.default_rng(5)
    table = rng.normal(4000, 10, (20_400, 54)).astype(np.float32)
    search = search_in(table[:20_000], Metric.L2)
    assert_same(search(table[20_000:], 10), brute_force("L2", table[:20_000], table[20_000:], 10))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", Metric)
def test_rows_that_are_mapped_from_a_file_and_not_aligned_are_searched_alike(tmp_path, brute_force, engine, metric):
    table = _few_directions(np.random.default_rng(6), 10_080)
    index = faiss.IndexFlat(30, faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT)
    index.add(table[:10_000])
    faiss.write_index(index, str(tmp_path / "index"))
    mapped = faiss.read_index(str(tmp_path / "index"), faiss.IO_FLAG_MMAP_IFC)
    search = ExactSearch(mapped, metric, engine)
    assert not search._rows.flags.aligned
    for queries in (table[10_000:], table[10_000:10_001]):
        assert_same(search(queries, 10), brute_force(metric, table[:10_000], queries, 10))


def test_a_row_whose_product_overflows_on_its_way_to_a_finite_value_is_not_left_out(brute_force):
    rng = np.random.default_rng(8)
    rows = rng.normal(0, 1e15, (1000, 16)).astype(np.float32)
    rows[:, :2] = rng.normal(0, 3e16, (1000, 2))
    rows[7, :2] = -9e18, 1e19
    query = np.zeros((1, 16), np.float32)
    query[0, :2] = 1e20
    for queries in (query, np.repeat(query, 10, axis=0)):
        expected = brute_force(Metric.INNER_PRODUCT, rows, queries, 3)
        assert expected[0][0, 0] == 7
        assert_same(search_in(rows, Metric.INNER_PRODUCT)(queries, 3), expected)


def test_a_query_that_overflows_does_not_change_the_answer_beside_it(brute_force):
    rows = np.full((2000, 2), 100, np.float32)
    rows[0], rows[1:17], rows[20], rows[21:37] = (0, 0), (3, 0), (1, 0), (3, 0)
    queries = np.array([[3e38, 3e38], [0, 0]], np.float32)
    assert_same(search_in(rows, Metric.L2, "products")(queries, 1), brute_force(Metric.L2, rows, queries, 1))


def test_projections_leave_out_no_row_whose_bound_overflows(brute_force):
    rng = np.random.default_rng(9)
    rows = rng.normal(0, 1e14, (4000, 64))
    rows[:, 0] = rng.normal(0, 1e17, 4000)
    rows[100:140, 0] = 1.2e19 + rng.normal(0, 1e17, 40)
    rows[5, 0], rows[200:204, 0] = 3e19, -3e19
    rows = rows.astype(np.float32)
    assert_same(search_in(rows, Metric.L2, "projections")(rows[5:6], 3), brute_force(Metric.L2, rows, rows[5:6], 3))


@pytest.mark.parametrize("metric", Metric)
def test_many_candidates_are_held_a_few_at_a_time(monkeypatch, brute_force, metric):
    rng = np.random.default_rng(10)
    rows = rng.integers(0, 2, (3000, 6)).astype(np.float32)  # with many ties, so that more and more are asked for
    expected = brute_force(metric, rows, rows[:60], 5)
    monkeypatch.setattr(certified, "_CANDIDATES", 256)
    for engine in ENGINES:
        assert_same(search_in(rows, metric, engine)(rows[:60], 5), expected)


def test_a_search_goes_on_alone_where_no_more_threads_begin(monkeypatch):
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: 2)
    assert spread(lambda part: part, 10) == [slice(0, 5), slice(5, 10)]
    monkeypatch.setattr(concurrent.futures.thread, "_shutdown", True)  # as it is while the interpreter ends
    assert spread(lambda part: part, 10) == [slice(0, 10)]


def test_what_leaves_rows_out_is_to_be_three_times_as_fast_for_many_neighbours(monkeypatch):
    table = _few_directions(np.random.default_rng(0), 20_000)
    for share, name in ((0.5, "products"), (0.2, KD_TREE)):
        search = search_in(table, Metric.L2)
        fixed = {"products": 0.01, "scan": 0.015, KD_TREE: share / 100}
        monkeypatch.setattr(trial, "_seconds", lambda work, fixed=fixed: _pretend(work, fixed))
        search.speed_up(10**9, queries=10**9)
        assert {few.name for _, few, _ in search._plan} == {KD_TREE}
        assert {many.name for _, _, many in search._plan} == {name}


def test_one_slow_moment_does_not_decide_which_engine_is_taken(monkeypatch):
    search = search_in(_few_directions(np.random.default_rng(0), 20_000), Metric.L2)
    fixed, seen = {"products": 0.01, "scan": 0.015, KD_TREE: 0.001}, []

    def first_is_slow(work):
        asked = work.func.__self__.name, len(work.args[0])
        seen.append(asked)
        return 0.05 if seen.count(asked) == 1 else fixed[asked[0]]

    monkeypatch.setattr(trial, "_seconds", first_is_slow)
    search.speed_up(10**9, queries=10**9)
    assert _engines_in_use(search) == {KD_TREE}


def test_an_engine_takes_no_longer_for_a_batch_than_for_its_parts(monkeypatch):
    search = search_in(_few_directions(np.random.default_rng(0), 20_000), Metric.L2)
    fixed = {"products": 0.03, "scan": 0.04, KD_TREE: 0.001}

    def large_are_slow(work):
        name, queries = work.func.__self__.name, len(work.args[0])
        return 0.05 if name == KD_TREE and queries == 256 else fixed[name]

    monkeypatch.setattr(trial, "_seconds", large_are_slow)
    search.speed_up(10**9, queries=10**9)
    assert {few.name for _, few, _ in search._plan} == {KD_TREE}


def test_a_trial_asks_for_no_batch_that_would_take_it_beyond_its_time(monkeypatch):
    search, clock = search_in(np.random.default_rng(0).random((5000, 20), np.float32), Metric.L2), [0.0]
    fixed, each = {"products": 0.02, "scan": 0.0}, {"products": 0.004, "scan": 0.03}

    def seconds(work):
        name, queries = work.func.__self__.name, len(work.args[0])
        clock[0] += fixed[name] + each[name] * queries
        return fixed[name] + each[name] * queries

    monkeypatch.setattr(trial, "_seconds", seconds)
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    search.compare()
    assert {(it.engine, it.queries) for it in search.timings} == {("products", 1), ("scan", 1), ("products", 16)}
    assert clock[0] < 0.3


def _pretend(work, fixed):
    return fixed[work.func.__self__.name]
