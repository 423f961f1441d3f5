import faiss
import numpy as np
import pytest

from knn_container import index
from knn_container.errors import UserError
from knn_container.index import FLAT, IVF_FLAT, IVF_PQ, IndexSpec
from knn_container.metric import Metric


def spec_of(index_type, metric=Metric.L2, nlist=None, pq_m=None, seed=0):
    return IndexSpec(index_type, metric, nlist, pq_m, seed)


def normal_rows(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.fixture(scope="module")
def build(blocks_of):
    return lambda spec, rows: index.build(spec, len(rows), rows.shape[1], blocks_of(rows))


def vectors_of(built):
    if isinstance(built, faiss.IndexIVF):
        built.make_direct_map()
    return built.reconstruct_n(0, built.ntotal)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (spec_of(FLAT), faiss.IndexFlat),
        (spec_of(IVF_FLAT, nlist=4), faiss.IndexIVFFlat),
        (spec_of(IVF_PQ, nlist=4, pq_m=2), faiss.IndexIVFPQ),
    ],
)
def test_an_index_is_of_the_type_asked_for_and_holds_every_row(build, spec, kind):
    built = build(spec, normal_rows(300, 4))
    assert isinstance(built, kind)
    assert (built.ntotal, built.d, built.is_trained) == (300, 4, True)


@pytest.mark.parametrize(
    ("metric", "faiss_metric"),
    [
        (Metric.L2, faiss.METRIC_L2),
        (Metric.INNER_PRODUCT, faiss.METRIC_INNER_PRODUCT),
        (Metric.COSINE, faiss.METRIC_INNER_PRODUCT),
    ],
)
@pytest.mark.parametrize("index_type", [FLAT, IVF_FLAT])
def test_cosine_is_an_inner_product_to_faiss(build, index_type, metric, faiss_metric):
    assert build(spec_of(index_type, metric), normal_rows(30, 3)).metric_type == faiss_metric


@pytest.mark.parametrize(
    ("index_type", "metric", "unit"),
    [
        (FLAT, Metric.L2, False),
        (FLAT, Metric.COSINE, False),
        (IVF_FLAT, Metric.L2, False),
        (IVF_FLAT, Metric.INNER_PRODUCT, False),
        (IVF_FLAT, Metric.COSINE, True),
    ],
)
def test_rows_are_held_as_they_came_but_for_cosine_in_inverted_lists(build, index_type, metric, unit):
    rows = normal_rows(50, 6)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    expected = (rows / lengths).astype(np.float32) if unit else rows
    assert spec_of(index_type, metric).holds_unit_rows is unit
    np.testing.assert_array_equal(vectors_of(build(spec_of(index_type, metric), rows)), expected)


@pytest.mark.parametrize(("rows", "lists"), [(1, 1), (3, 1), (4, 2), (99, 9), (100, 10)])
def test_auto_lists_are_the_square_root_of_the_rows_held(build, rows, lists):
    assert build(spec_of(IVF_FLAT), normal_rows(rows, 2)).nlist == lists


def test_lists_and_codes_are_those_asked_for(build):
    built = build(spec_of(IVF_PQ, nlist=7, pq_m=4), normal_rows(300, 8))
    assert (built.nlist, built.pq.M, built.pq.nbits, built.code_size) == (7, 4, 8, 4)


@pytest.mark.parametrize("index_type", [IVF_FLAT, IVF_PQ])
def test_the_same_rows_and_seed_give_the_same_bytes(build, index_type):
    rows = normal_rows(600, 8)
    spec = spec_of(index_type, nlist=5, pq_m=2, seed=3)
    first, second = (faiss.serialize_index(build(spec, rows)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = build(spec_of(index_type, nlist=5, pq_m=2, seed=4), rows)
    assert not np.array_equal(faiss.serialize_index(other), first)


@pytest.mark.parametrize("index_type", [FLAT, IVF_FLAT])
def test_the_size_of_blocks_leaves_no_trace(build, monkeypatch, index_type):
    rows = normal_rows(500, 4)
    whole = faiss.serialize_index(build(spec_of(index_type, nlist=5), rows))
    monkeypatch.setattr(index, "_BLOCK", 4 * 7)  # blocks of seven rows
    np.testing.assert_array_equal(faiss.serialize_index(build(spec_of(index_type, nlist=5), rows)), whole)


def test_k_means_is_trained_on_rows_of_the_whole_data(build):
    # More rows than k-means takes; the last eighth lies apart and gets a list of its own.
    rows = normal_rows(80_000, 2)
    rows[70_000:] += 1000
    built = build(spec_of(IVF_FLAT, nlist=2), rows)
    assert sorted(built.invlists.list_size(i) for i in range(2)) == [10_000, 70_000]


@pytest.mark.parametrize(
    ("spec", "rows", "words"),
    [
        (spec_of(IVF_FLAT, nlist=11), 10, ["faiss_index_ivf_nlists is 11", "10 rows"]),
        (spec_of(IVF_PQ, nlist=11, pq_m=2), 10, ["faiss_index_ivf_nlists is 11", "10 rows"]),
        (spec_of(IVF_PQ, nlist=1, pq_m=2), 255, ["256 rows", "255 were sampled"]),
    ],
)
def test_too_few_rows_are_refused_with_the_numbers_to_change(build, spec, rows, words):
    with pytest.raises(UserError) as caught:
        build(spec, normal_rows(rows, 4))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("spec", "rows"),
    [(spec_of(IVF_FLAT, nlist=10), 10), (spec_of(IVF_PQ, nlist=1, pq_m=2), 256), (spec_of(FLAT), 1)],
)
def test_just_enough_rows_are_enough(build, spec, rows):
    assert build(spec, normal_rows(rows, 4)).ntotal == rows


@pytest.mark.parametrize("index_type", [IVF_FLAT, IVF_PQ])
def test_features_whose_squares_overflow_are_refused_by_inverted_lists(build, index_type):
    rows = normal_rows(300, 4)
    rows[7, 2] = 1e19
    with pytest.raises(UserError, match=r"1(\.0)?e\+19 came"):
        build(spec_of(index_type, nlist=2, pq_m=2), rows)


@pytest.mark.parametrize("metric", [Metric.L2, Metric.INNER_PRODUCT])
def test_a_flat_index_and_cosine_take_features_of_any_size(build, metric):
    rows = normal_rows(20, 4) * np.float32(1e37)
    np.testing.assert_array_equal(vectors_of(build(spec_of(FLAT, metric), rows)), rows)
    assert np.isfinite(vectors_of(build(spec_of(IVF_FLAT, Metric.COSINE), rows))).all()
