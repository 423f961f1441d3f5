"""The search of inverted lists, plain and product-quantised."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knn_container import index
from knn_container.index import IVF_FLAT, IVF_PQ, IndexSpec
from knn_container.metric import Metric
from knn_container.search import search_for

CASES = [
    (IVF_FLAT, Metric.L2),
    (IVF_FLAT, Metric.INNER_PRODUCT),
    (IVF_FLAT, Metric.COSINE),
    (IVF_PQ, Metric.L2),
]


@pytest.fixture(scope="module")
def build(blocks_of):
    def build(index_type, metric, rows, nlist):
        spec = IndexSpec(index_type, metric, nlist, 4 if index_type == IVF_PQ else None, seed=0)
        return index.build(spec, len(rows), rows.shape[1], blocks_of(rows))

    return build


def held_by(built):
    """The rows as the index holds them: scaled under COSINE, decoded under product quantisation."""
    built.make_direct_map()
    return built.reconstruct_n(0, built.ntotal)


@pytest.mark.parametrize("nprobe", [1, 5])
@pytest.mark.parametrize(("index_type", "metric"), CASES)
@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (1000, 10)])
def test_a_query_alone_finds_what_it_finds_in_a_batch_of_1000(*, build, index_type, metric, nprobe, mean, deviation):
    rng = np.random.default_rng(0)
    rows = rng.normal(mean, deviation, (900, 12)).astype(np.float32)
    queries = rng.normal(mean, deviation, (1000, 12)).astype(np.float32)
    search = search_for(build(index_type, metric, rows, 20), metric, nprobe)
    together = search(queries, 10)
    for i in range(0, 1000, 13):
        alone = search(queries[i : i + 1], 10)
        np.testing.assert_array_equal(alone.rows[0], together.rows[i])
        np.testing.assert_array_equal(alone.values[0], together.values[i])


@pytest.mark.parametrize("kind", ["normal", "integer grid", "one row many times"])
@pytest.mark.parametrize("metric", [Metric.L2, Metric.INNER_PRODUCT])
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 400), d=st.integers(1, 30), k=st.integers(1, 50))
def test_probing_every_list_equals_brute_force(*, build, brute_force, metric, kind, seed, n, d, k):
    rng = np.random.default_rng(seed)
    table = {
        "normal": lambda size: rng.normal(size=(size, d)),
        "integer grid": lambda size: rng.integers(0, 50, (size, d)),
        "one row many times": lambda size: np.ones((size, d)),
    }[kind]
    rows, queries = table(n).astype(np.float32), table(10).astype(np.float32)
    nlist = min(n, 8)
    if kind == "one row many times":
        k = min(k, n)
    found = search_for(build(IVF_FLAT, metric, rows, nlist), metric, nlist)(queries, k)
    expected_rows, expected_values = brute_force(metric, rows, queries, k)
    np.testing.assert_array_equal(found.rows, expected_rows)
    np.testing.assert_array_equal(found.values[found.rows >= 0], expected_values[expected_rows >= 0])


def test_probing_every_list_under_cosine_equals_brute_force_on_the_rows_as_they_came(build, brute_force):
    rng = np.random.default_rng(5)
    rows, queries = rng.normal(size=(500, 8)).astype(np.float32), rng.normal(size=(200, 8)).astype(np.float32)
    found = search_for(build(IVF_FLAT, Metric.COSINE, rows, 8), Metric.COSINE, 8)(queries, 10)
    expected_rows, expected_values = brute_force("COSINE", rows, queries, 10)
    np.testing.assert_array_equal(found.rows, expected_rows)
    np.testing.assert_allclose(found.values, expected_values, rtol=2e-7)


@pytest.mark.parametrize(("index_type", "metric"), CASES)
def test_missing_neighbours_come_after_those_that_exist(build, index_type, metric):
    rng = np.random.default_rng(6)
    rows, queries = rng.normal(size=(300, 8)).astype(np.float32), rng.normal(size=(40, 8)).astype(np.float32)
    found = search_for(build(index_type, metric, rows, 50), metric, 1)(queries, 100).rows
    exists = found >= 0
    assert exists.any(axis=1).all()
    assert not exists.all(axis=1).any()  # no list holds 100 of the 300 rows
    np.testing.assert_array_equal(exists, np.sort(exists, axis=1)[:, ::-1])
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found)


@pytest.mark.parametrize(("index_type", "metric"), CASES)
def test_values_are_those_of_the_rows_as_the_index_holds_them(build, brute_force, index_type, metric):
    rng = np.random.default_rng(7)
    rows, queries = rng.normal(size=(400, 12)).astype(np.float32), rng.normal(size=(30, 12)).astype(np.float32)
    built = build(index_type, metric, rows, 10)
    found = search_for(built, metric, 10)(queries, 5)
    expected_rows, expected_values = brute_force(metric, held_by(built), queries, 5)
    np.testing.assert_array_equal(found.values, expected_values)
    np.testing.assert_array_equal(found.rows, expected_rows)


def test_decoded_rows_of_product_quantisation_are_not_the_rows_that_came(build):
    rows = np.random.default_rng(8).normal(size=(400, 12)).astype(np.float32)
    decoded = held_by(build(IVF_PQ, Metric.L2, rows, 10))
    error = np.square(decoded - rows).mean()
    assert 0 < error < np.square(rows).mean()


@pytest.mark.parametrize("metric", Metric)
def test_a_query_whose_lists_are_empty_is_answered_from_the_others(metric):
    centroids = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    kind = faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
    quantizer = faiss.IndexFlat(2, kind)
    quantizer.add(centroids)
    built = faiss.IndexIVFFlat(quantizer, 2, 3, kind)
    built.is_trained = True
    built.add(np.array([[1, 0], [0.8, 0.6]], np.float32))  # both into the list of the first centroid

    queries = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    found = search_for(built, metric, 1)(queries, 3)
    # By hand: distances 0 and 0.4, 2 and 0.8, 4 and 3.6; products 1 and 0.8, 0 and 0.6, -1 and -0.8.
    assert found.rows.tolist() == [[0, 1, -1], [1, 0, -1], [1, 0, -1]]
    expected = [[0, 0.4], [0.8, 2], [3.6, 4]] if metric is Metric.L2 else [[1, 0.8], [0.6, 0], [-0.8, -1]]
    np.testing.assert_allclose(found.values[:, :2], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("index_type", "metric"), CASES)
def test_queries_of_any_size_find_rows(build, index_type, metric):
    rows = np.random.default_rng(9).normal(size=(300, 4)).astype(np.float32)
    queries = np.array([[3e38, -3e38, 3e38, 3e38], [1e-40, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    found = search_for(build(index_type, metric, rows, 10), metric, 3)(queries, 5)
    assert (found.rows >= 0).all()
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(("index_type", "metric"), CASES)
def test_no_query_gives_an_empty_answer(build, index_type, metric):
    rows = np.random.default_rng(10).normal(size=(300, 4)).astype(np.float32)
    found = search_for(build(index_type, metric, rows, 4), metric, 1)(np.empty((0, 4), np.float32), 3)
    assert found.rows.shape == found.values.shape == (0, 3)
