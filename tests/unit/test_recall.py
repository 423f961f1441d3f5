"""Every index against the flat one: recall@10, counted by distance so that ties are no misses."""

from functools import cache

import numpy as np
import pytest
from sklearn.datasets import load_digits

from knn_container import index
from knn_container.errors import UserError
from knn_container.index import (
    FLAT,
    HNSW,
    INDEX_TYPES,
    IVF_FLAT,
    IVF_PQ,
    IVF_RABITQ,
    IVF_SQ_8,
    SQ_8,
    SQ_FP16,
    IndexSpec,
)
from knn_container.metric import Metric
from knn_container.search import search_for

NPROBE = 20  # of the digits' 31 lists and the made rows' 54
# The least recall on the digits and on the made rows. A column has 2 or 4 bits under IVFPQ, 1 under RaBitQ, and 8 or
# 16 under the scalar quantisers.
LEAST = {
    IVF_FLAT: (0.99, 0.99),
    IVF_PQ: (0.90, 0.85),
    SQ_FP16: (0.995, 0.995),
    SQ_8: (0.98, 0.95),
    IVF_SQ_8: (0.98, 0.95),
    HNSW: (0.99, 0.99),
    IVF_RABITQ: (0.50, 0.45),
}
CASES = [(kind, metric) for kind in INDEX_TYPES for metric in Metric if kind != IVF_PQ or metric is Metric.L2]


def true_values(metric, rows, queries):
    wide, asked = rows.astype(np.float64), queries.astype(np.float64)
    if metric is Metric.L2:
        values = [np.square(wide - query).sum(axis=1) for query in asked]
    else:
        values = [wide @ query for query in asked]
    if metric is Metric.COSINE:
        values /= np.linalg.norm(asked, axis=1)[:, np.newaxis] * np.linalg.norm(wide, axis=1)
    return np.array(values).astype(np.float32)


def recall(metric, found, expected):
    """The share of the neighbours found that are at least as near as the true 10th one, by their true values."""
    farthest = -np.inf if metric.is_similarity else np.inf
    came = np.where(found >= 0, np.take_along_axis(expected, found, axis=1), farthest)
    tenth = nearest_ten(metric, expected)[:, 9:]
    return np.mean(came >= tenth if metric.is_similarity else came <= tenth)


def nearest_ten(metric, expected):
    return -np.sort(-expected, axis=1)[:, :10] if metric.is_similarity else np.sort(expected, axis=1)[:, :10]


@pytest.fixture(scope="module")
def build(blocks_of):
    def build_(kind, metric, rows, nlist=None):
        spec = IndexSpec(kind, metric, nlist, 16 if kind == IVF_PQ else None)
        return index.build(spec, len(rows), rows.shape[1], blocks_of(rows))

    return build_


@pytest.fixture(scope="module")
def tables():
    digits = (load_digits().data / 10).astype(np.float32)
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(30, 32))
    made = (centres[rng.integers(0, 30, 3300)] + rng.normal(size=(3300, 32))).astype(np.float32)
    return {"digits": (digits[:1000], digits[1000:]), "made": (made[:3000], made[3000:])}


@pytest.fixture(scope="module")
def search(build, tables):
    """Searches a table's rows; an index is built once."""

    @cache
    def search_(kind, metric, table):
        return search_for(build(kind, metric, tables[table][0]), metric, NPROBE)

    return search_


@pytest.mark.parametrize("table", ["digits", "made"])
@pytest.mark.parametrize(("kind", "metric"), [case for case in CASES if case[0] != FLAT])
def test_ten_neighbours_are_mostly_those_of_an_exhaustive_search(tables, search, kind, metric, table):
    rows, queries = tables[table]
    found = search(kind, metric, table)(queries, 10).rows
    assert all(len(set(row)) == 10 for row in found.tolist())
    assert recall(metric, found, true_values(metric, rows, queries)) >= LEAST[kind][table == "made"]


@pytest.mark.parametrize("table", ["digits", "made"])
@pytest.mark.parametrize("metric", Metric)
def test_a_flat_index_misses_nothing(tables, search, metric, table):
    rows, queries = tables[table]
    expected = nearest_ten(metric, true_values(metric, rows, queries))
    np.testing.assert_allclose(search(FLAT, metric, table)(queries, 10).values, expected, rtol=2e-7)


@pytest.mark.parametrize("kind", [IVF_FLAT, IVF_PQ, IVF_SQ_8, IVF_RABITQ])
def test_more_lists_probed_find_more(tables, search, kind):
    expected = true_values(Metric.L2, *tables["made"])
    queries = tables["made"][1]
    few, some, all_ = (
        recall(Metric.L2, search(kind, Metric.L2, "made")(queries, 10, nprobe).rows, expected) for nprobe in (1, 3, 54)
    )
    assert few < some <= all_


def rows_with_zeros(shift):
    rows = np.random.default_rng(1).normal(size=(600, 16)).astype(np.float32) + np.float32(shift)
    rows[[3, 7]] = 0
    return rows


COSINE_TYPES = [kind for kind, metric in CASES if metric is Metric.COSINE]


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("kind", COSINE_TYPES)
def test_rows_of_zeros_have_the_cosine_0_to_everything(build, kind, shift):
    rows = rows_with_zeros(shift)
    known = index.zero_rows(index.IndexSpec(kind, Metric.COSINE), iter([rows]))
    found = search_for(build(kind, Metric.COSINE, rows, 8), Metric.COSINE, 8, known)(rows[:20], len(rows))
    of_zeros = found.values[(found.rows == 3) | (found.rows == 7)]
    assert of_zeros.tolist() == [0] * 40


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("kind", COSINE_TYPES)
def test_a_query_of_zeros_has_the_cosine_0_to_everything(build, kind, shift):
    found = search_for(build(kind, Metric.COSINE, rows_with_zeros(shift), 8), Metric.COSINE, 8)(
        np.zeros((2, 16), np.float32), 50
    )
    assert (found.rows >= 0).all()
    assert found.values.tolist() == [[0] * 50] * 2


@pytest.mark.parametrize("rows", [rows_with_zeros(0), np.zeros((600, 16), np.float32)], ids=["some", "all"])
@pytest.mark.parametrize(("kind", "metric"), CASES)
def test_no_value_is_nan_or_infinite_where_rows_are_zeros(build, kind, metric, rows):
    queries = np.concatenate([np.zeros((1, 16), np.float32), rows_with_zeros(0)[:5]])
    found = search_for(build(kind, metric, rows, 8), metric, 8)(queries, 30)
    assert np.isfinite(found.values).all()
    assert (found.rows[:, 0] >= 0).all()


@pytest.mark.parametrize("kind", [kind for kind, metric in CASES if metric is Metric.L2])
def test_a_query_alone_finds_what_it_finds_in_a_batch(tables, search, kind):
    queries = tables["made"][1]
    ask = search(kind, Metric.L2, "made")
    together = ask(queries, 10)
    for number in range(0, len(queries), 50):
        alone = ask(queries[number : number + 1], 10)
        np.testing.assert_array_equal(alone.rows[0], together.rows[number])
        np.testing.assert_array_equal(alone.values[0], together.values[number])


@pytest.mark.parametrize(("largest", "fits"), [(65504, True), (65505, False), (1e6, False), (-65536, False)])
def test_half_precision_takes_features_up_to_65504(build, largest, fits):
    rows = np.ones((10, 4), np.float32)
    rows[6, 2] = largest
    if fits:
        assert build(SQ_FP16, Metric.L2, rows).ntotal == 10
        return
    with pytest.raises(UserError, match=r"faiss\.SQfp16 takes features of a magnitude up to 6\.55e\+04, .* came") as e:
        build(SQ_FP16, Metric.L2, rows)
    assert "faiss.Flat" in str(e.value)


def test_half_precision_holds_rows_of_any_length_under_cosine(build):
    rows = np.random.default_rng(2).normal(size=(50, 8)).astype(np.float32)
    small = search_for(build(SQ_FP16, Metric.COSINE, rows), Metric.COSINE, 1)(rows, 5)
    large = search_for(build(SQ_FP16, Metric.COSINE, rows * np.float32(2.0**60)), Metric.COSINE, 1)(rows, 5)
    np.testing.assert_array_equal(small.rows, large.rows)
