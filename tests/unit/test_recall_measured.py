"""The recall that is measured after training, against brute force in float64."""

from contextlib import nullcontext

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from knn_container import index, recall
from knn_container.index import FLAT, HNSW, INDEX_TYPES, IVF_FLAT, IVF_PQ, SQ_8, IndexSpec
from knn_container.metric import Metric
from knn_container.recall import HeldBack, Recall
from knn_container.sampling import Sample
from knn_container.search import search_for

CASES = [(kind, metric) for kind in INDEX_TYPES[1:] for metric in Metric if kind != IVF_PQ or metric is Metric.L2]


def sample_of(rows, order=None):
    return Sample(np.ascontiguousarray(rows, np.float32), np.zeros(len(rows)), np.arange(len(rows)), order, len(rows))


@pytest.fixture(scope="module")
def digits():
    return load_digits().data.astype(np.float32)


@pytest.fixture(scope="module")
def build(blocks_of):
    def build_(kind, metric, rows, nlist=None):
        spec = IndexSpec(kind, metric, nlist, 8 if kind == IVF_PQ else None, seed=3)
        return spec, index.build(spec, len(rows), rows.shape[1], blocks_of(rows))

    return build_


def by_hand(metric, rows, built, k, nprobe):
    """The recall over all rows: each is asked for, and left out of what is found and of what is true."""
    wide = rows.astype(np.float64)
    near = -np.array([np.square(wide - row).sum(axis=1) for row in wide]) if metric is Metric.L2 else wide @ wide.T
    if metric is Metric.COSINE:
        lengths = np.linalg.norm(wide, axis=1)
        near /= lengths * lengths[:, np.newaxis]
    near = near.astype(np.float32)
    np.fill_diagonal(near, -np.inf)
    found = search_for(built, metric, nprobe)(rows, k + 1).rows
    hits = 0
    for number, row in enumerate(found):
        others = [it for it in row if it != number][:k]
        hits += int((near[number, others] >= np.sort(near[number])[-k]).sum())
    return hits / (len(rows) * k)


@pytest.mark.parametrize(("kind", "metric"), [case for case in CASES if case[0] != HNSW])
@pytest.mark.parametrize("k", [1, 10])
def test_it_is_what_brute_force_says(*, build, digits, kind, metric, k):
    rows = digits[:700]
    spec, built = build(kind, metric, rows, nlist=30)
    came = recall.measure(sample_of(rows), spec, built, k, 2)
    assert came == Recall(pytest.approx(by_hand(metric, rows, built, k, 2), abs=1e-6), k, 700, came.nprobe)
    assert came.nprobe == (2 if isinstance(built, faiss.IndexIVF) else None)
    assert 0.2 < came.value < 1 or kind in ("faiss.SQfp16", "faiss.SQ8")


def test_more_lists_find_more_and_all_lists_all(build, digits):
    spec, built = build(IVF_FLAT, Metric.L2, digits, nlist=40)
    values = [recall.measure(sample_of(digits), spec, built, 5, nprobe).value for nprobe in (1, 2, 4, 8, 40, 1000)]
    assert values == sorted(values)
    assert len(set(values[:4])) == 4
    assert values[-2:] == [1.0, 1.0]
    assert recall.measure(sample_of(digits), spec, built, 5, 1000).nprobe == 40


def test_a_graph_is_asked_as_if_the_query_were_not_in_it(build, monkeypatch):
    """The edges that lead from a row name its neighbours: with them a graph would seem to find more than it does.

    Without them it seems to find a little less, as rows that the query joined are joined no more.
    """
    rng = np.random.default_rng(0)
    rows, others = rng.random((6000, 48)).astype(np.float32), rng.random((1000, 48)).astype(np.float32)
    spec, built = build(HNSW, Metric.L2, rows)
    before = faiss.serialize_index(built)
    came = recall.measure(sample_of(rows), spec, built, 10, 1)
    np.testing.assert_array_equal(faiss.serialize_index(built), before)
    exact = search_for(build(FLAT, Metric.L2, rows)[1], Metric.L2, 1)(others, 10)
    found = search_for(built, Metric.L2, 1)(others, 10)
    fresh = np.mean(found.values <= exact.values[:, -1:])
    assert 900 < came.queries < 1000  # not those by which every search passes
    assert fresh - 0.03 < came.value < fresh + 0.005
    monkeypatch.setattr(recall, "_without_edges", lambda *_: nullcontext())
    assert recall.measure(sample_of(rows), spec, built, 10, 1).value > fresh + 0.01


@pytest.mark.parametrize("kind", [IVF_FLAT, SQ_8, HNSW])
@given(st.integers(2, 12), st.integers(1, 20))
def test_of_few_rows_all_that_are_there_count(kind, count, k):
    rows = np.random.default_rng(count).integers(0, 3, (count, 2)).astype(np.float32)
    spec = IndexSpec(kind, Metric.L2, nlist=1)
    built = index.build(spec, count, 2, lambda size: iter([rows]))
    came = recall.measure(sample_of(rows), spec, built, k, 1)
    assert (came.k, came.value) == (min(k, count - 1), 1.0)
    assert 1 <= came.queries <= count


def test_of_an_exact_index_or_a_single_row_there_is_nothing_to_measure(build, digits):
    spec, built = build(FLAT, Metric.L2, digits)
    assert recall.measure(sample_of(digits), spec, built, 5, 1) is None
    spec, built = build(HNSW, Metric.L2, digits[:1])
    assert recall.measure(sample_of(digits[:1]), spec, built, 5, 1) is None


def test_equal_rows_are_no_misses(build):
    rows = np.repeat(np.eye(4, 6, dtype=np.float32), 50, axis=0)
    spec, built = build(IVF_FLAT, Metric.L2, rows, nlist=4)
    assert recall.measure(sample_of(rows), spec, built, 10, 1).value == 1.0


@pytest.mark.parametrize("metric", Metric)
def test_it_depends_on_no_number_of_threads_blocks_or_order_in_memory(monkeypatch, build, digits, metric):
    spec, built = build(IVF_FLAT, metric, digits, nlist=40)
    expected = recall.measure(sample_of(digits), spec, built, 10, 2)
    order = np.random.default_rng(0).permutation(len(digits))
    shuffled = np.empty_like(digits)
    shuffled[order] = digits
    assert recall.measure(sample_of(shuffled, order), spec, built, 10, 2) == expected
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1 if threads > 1 else 2)
        assert recall.measure(sample_of(digits), spec, built, 10, 2) == expected
    finally:
        faiss.omp_set_num_threads(threads)
    monkeypatch.setattr(recall, "_BLOCK", 64 * 100)
    assert recall.measure(sample_of(digits), spec, built, 10, 2) == expected


def test_the_queries_of_large_samples_are_fewer(monkeypatch, digits):
    assert len(HeldBack(sample_of(digits), Metric.L2, 5, 0).queries) == 1000
    assert len(HeldBack(sample_of(digits), Metric.L2, 5, 0, most=300).queries) == 300
    monkeypatch.setattr(recall, "_WORK", 100 * digits.size)
    assert 32 < len(HeldBack(sample_of(digits), Metric.L2, 5, 0).queries) < 100
    monkeypatch.setattr(recall, "_WORK", 1)
    assert len(HeldBack(sample_of(digits), Metric.L2, 5, 0).queries) == 32


def test_other_seeds_ask_for_other_rows(digits):
    first, second, again = (HeldBack(sample_of(digits), Metric.L2, 5, seed).queries for seed in (0, 1, 0))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "wrong",
    [{"value": 1.5}, {"value": -0.1}, {"value": "1"}, {"value": None}, {"k": 0}, {"queries": 2.5}, {"nprobe": "5"}],
)
def test_what_cannot_be_is_refused(wrong):
    given = {"value": 0.5, "k": 3, "queries": 10, "nprobe": 5}
    Recall(**given).check()
    Recall(**(given | {"nprobe": None})).check()
    with pytest.raises(ValueError, match="there is no recall"):
        Recall(**(given | wrong)).check()
