"""Exact search's engine on a GPU."""

import faiss
import numpy as np
import pytest
from fake_gpu import GIB

from knn_container import gpu
from knn_container.metric import Metric
from knn_container.search import trial
from knn_container.search.exact import ExactSearch
from knn_container.search.gpu_flat import FlatOnCard, flat_on_card


def not_to_fail():
    pytest.fail("the GPU failed")


def normal_rows(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("shift", [0, 10, 3000])
def test_what_a_gpu_proposes_with_certainty_are_the_nearest_rows(card, brute_force, metric, shift):
    rows, queries = normal_rows(2000, 12) + np.float32(shift), normal_rows(100, 12, seed=1) + np.float32(shift)
    kind = faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
    flat = faiss.IndexFlat(12, kind)
    flat.add(rows)
    engine = FlatOnCard(card, flat, rows, metric, not_to_fail)
    last, candidates = engine.propose(queries, 10 + engine.spare)
    expected, values = brute_force(metric, rows, queries, 10)
    limit = engine.limit(queries, values[:, -1], last)
    certain = values[:, -1] > limit if metric.is_similarity else values[:, -1] < limit
    assert all(set(expected[i]) <= set(candidates[i]) for i in np.flatnonzero(certain))
    if shift == 0:
        assert certain.all()
    if shift == 3000 and metric is Metric.L2:
        assert not certain.any()
    # A float32 sum of d products may be off by d/2 units in the last place of |x||q|, 2^-23 each.
    slack = 6 * 2.0**-23 * np.linalg.norm(queries, axis=1) * np.linalg.norm(rows, axis=1).min()
    if metric is Metric.COSINE:
        slack = np.full(100, 6 * 2.0**-23)
    assert ((limit - last if metric.is_similarity else last - limit) >= slack).all()


@pytest.mark.parametrize("metric", [Metric.L2, Metric.INNER_PRODUCT])
def test_nothing_is_certain_where_float32_may_overflow(card, metric):
    rows = normal_rows(2000, 4) * np.float32(3e18)
    flat = faiss.IndexFlat(4, faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT)
    flat.add(rows)
    engine = FlatOnCard(card, flat, rows, metric, not_to_fail)
    last, _ = engine.propose(rows[:5] * np.float32(8), 20)
    assert np.isnan(engine.limit(rows[:5] * np.float32(8), np.zeros(5, np.float32), last)).all()


def flat_of(rows):
    flat = faiss.IndexFlat(rows.shape[1])
    flat.add(rows)
    return flat


def test_a_gpu_that_fails_proposes_nothing_from_then_on(fake, card, messages):
    rows, failures = normal_rows(500, 4), []
    engine = FlatOnCard(card, flat_of(rows), rows, Metric.L2, lambda: failures.append(1))
    fake.fails_from["search"] = 2
    assert (engine.propose(rows[:3], 5)[1] >= 0).all()
    for _ in range(2):
        last, candidates = engine.propose(rows[:3], 5)
        assert np.isnan(last).all()
        assert (candidates == -1).all()
    assert failures == [1]
    assert len(messages()) == 1


def test_more_candidates_than_a_gpu_gives_are_none(fake, card):
    rows = normal_rows(10_000, 4)
    engine = FlatOnCard(card, flat_of(rows), rows, Metric.L2, not_to_fail)
    assert (engine.propose(rows[:2], 2048)[1] >= 0).all()
    assert (engine.propose(rows[:2], 2049)[1] == -1).all()


def test_an_exact_search_gets_a_gpu_that_has_room(fake, found, cuda, messages):
    rows = normal_rows(1000, 4)
    assert isinstance(flat_on_card(flat_of(rows), rows, Metric.COSINE, not_to_fail), FlatOnCard)
    cuda.free[1] = 3 * GIB // 2
    assert flat_on_card(flat_of(rows), rows, Metric.L2, not_to_fail) is None
    assert "Fake 9000 has room for 0" in messages()[-1]
    cuda.free[1], fake.fails_from["copy"] = 8 * GIB, 1
    assert flat_on_card(flat_of(rows), rows, Metric.L2, not_to_fail) is None
    assert messages()[-1] == "The CPU searches: cudaMalloc error out of memory"


def test_an_exact_search_gets_none_where_there_is_none(monkeypatch):
    monkeypatch.setattr(gpu, "find", lambda: None)
    rows = normal_rows(10, 4)
    assert flat_on_card(flat_of(rows), rows, Metric.L2, not_to_fail) is None


def test_an_exact_search_takes_a_gpu_that_is_fastest_and_does_without_it_once_it_has_failed(
    fake, found, cuda, messages, brute_force, monkeypatch
):
    rows = normal_rows(6000, 30)
    search = ExactSearch(flat_of(rows), Metric.L2)
    monkeypatch.setattr(trial, "_seconds", lambda work: work() and 0.0 if work.func.__self__.name == "gpu" else 1.0)
    search.speed_up(0, queries=10**6)
    assert {timing.engine for timing in search.timings if timing.chosen} == {"gpu"}
    expected, _ = brute_force(Metric.L2, rows, rows[:20], 5)
    np.testing.assert_array_equal(search(rows[:20], 5).rows, expected)
    fake.fails_from["search"] = 0
    for _ in range(2):
        np.testing.assert_array_equal(search(rows[:20], 5).rows, expected)
    assert "gpu" not in {engine.name for _, *engines in search._plan for engine in engines}
