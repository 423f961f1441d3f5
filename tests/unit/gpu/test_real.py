"""On a GPU, where there is one; KNN_REQUIRE_GPU=1 fails where there is none. On a false one too, so that this works."""

import os

import faiss
import numpy as np
import pytest
from fake_gpu import DEVICE

from knn_container import gpu
from knn_container.index import IVF_FLAT, IVF_PQ, IVF_RABITQ, IVF_SQ_8
from knn_container.metric import Metric
from knn_container.search import search_for
from knn_container.search.gpu_flat import flat_on_card

CASES = [(IVF_FLAT, metric) for metric in Metric] + [(IVF_SQ_8, Metric.L2), (IVF_PQ, Metric.L2)]


@pytest.fixture(params=["false", "real"])
def card(request, monkeypatch):
    if request.param == "false":
        request.getfixturevalue("fake")
        request.getfixturevalue("cuda")
        false = gpu.Card(DEVICE)
        monkeypatch.setattr(gpu, "find", lambda: false)
        return false
    if found := gpu.find():
        return found
    if os.environ.get("KNN_REQUIRE_GPU") == "1":
        pytest.fail("FAISS cannot use a GPU", pytrace=False)
    pytest.skip("FAISS cannot use a GPU here")


def normal_rows(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize(("kind", "metric"), [*CASES, (IVF_RABITQ, Metric.L2)])
def test_it_builds_and_searches(card, build, gpu_wins, messages, kind, metric):
    rows, queries = normal_rows(100_000, 32), normal_rows(2000, 32, seed=1)
    first, second = (build(kind, metric, rows, 256, 8, find_card=lambda: card) for _ in range(2))
    np.testing.assert_array_equal(faiss.serialize_index(first), faiss.serialize_index(second))
    alone = build(kind, metric, rows, 256, 8)
    by_cpu, on_gpu = search_for(faiss.clone_index(first), metric, 16), search_for(first, metric, 16)
    on_gpu.speed_up(0, queries=10**6)
    assert (on_gpu._on_card is None) == (kind == IVF_RABITQ), messages()
    expected = by_cpu(queries, 10)
    assert on_gpu._on_card is None or len(queries) >= on_gpu._on_card[1]
    came = on_gpu(queries, 10)
    assert np.mean(came.rows == expected.rows) > 0.999
    same = came.rows == expected.rows
    np.testing.assert_array_equal(came.values[same], expected.values[same])
    truth = search_for(flat(rows, metric), metric, 1)(queries, 10).rows
    recalls = [
        np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.rows, truth, strict=True)])
        for found in (came, search_for(alone, metric, 16)(queries, 10))
    ]
    assert recalls[0] > recalls[1] - 0.02


def flat(rows, metric):
    made = faiss.IndexFlat(rows.shape[1], faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT)
    made.add(rows)
    return made


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("shift", [0, 10])
def test_it_proposes_the_nearest_rows(card, metric, shift):
    rows, queries = normal_rows(50_000, 54) + np.float32(shift), normal_rows(300, 54, seed=1) + np.float32(shift)
    engine = flat_on_card(flat(rows, metric), rows, metric, lambda: None)
    assert engine
    last, candidates = engine.propose(queries, 10 + engine.spare)
    expected = search_for(flat(rows, metric), metric, 1)(queries, 10)
    limit = engine.limit(queries, expected.values[:, -1], last)
    worst = expected.values[:, -1]
    certain = worst > limit if metric.is_similarity else worst < limit
    assert certain.mean() > 0.9 or shift
    assert all(set(expected.rows[i]) <= set(candidates[i]) for i in np.flatnonzero(certain))
