import faiss
import numpy as np
import pytest
from fake_gpu import GIB

from knn_container import gpu, index
from knn_container.index import FLAT, HNSW, IVF_FLAT, IVF_PQ, IVF_RABITQ, IVF_SQ_8
from knn_container.metric import Metric

LISTS = [IVF_FLAT, IVF_PQ, IVF_SQ_8, IVF_RABITQ]


def normal_rows(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("kind", LISTS)
def test_an_index_built_with_a_gpu_is_that_built_without(fake, card, build, messages, kind, metric):
    if kind == IVF_PQ and metric is not Metric.L2:
        return
    alone = build(kind, metric)
    helped = build(kind, metric, find_card=lambda: card)
    np.testing.assert_array_equal(faiss.serialize_index(helped), faiss.serialize_index(alone))
    assert fake.searches == 1  # the block of rows that was added; k-means took an index of the fake's
    assert fake.copies == (3 if kind == IVF_PQ else 2)
    assert [it.ntotal for it in fake.trained] == ([20, 256] if kind == IVF_PQ else [20])  # k-means leaves its centroids
    assert helped.clustering_index is None
    assert kind != IVF_PQ or helped.pq.assign_index is None
    assert messages() == ["k-means ran on GPU 1, Fake 9000."]


@pytest.mark.parametrize("kind", [FLAT, HNSW])
def test_no_gpu_is_looked_for_where_it_cannot_help(build, kind):
    build(kind, find_card=lambda: pytest.fail("it was looked for"))


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize(
    ("failing", "number", "line"),
    [
        ("copy", 1, "The CPU does the k-means: cudaMalloc"),
        ("copy", 2, "The CPU"),  # of the codes' k-means, or of adding
        ("search", 1, "The CPU goes on with adding rows: CUDA error 700"),
        ("search", 3, "The CPU goes on with adding rows: CUDA error 700"),
    ],
)
def test_a_gpu_that_fails_leaves_the_rest_to_the_cpu(
    fake, card, build, messages, monkeypatch, kind, failing, number, line
):
    monkeypatch.setattr(index, "_BLOCK", 16 * 500)  # six blocks
    alone = build(kind)
    fake.fails_from[failing] = number
    helped = build(kind, find_card=lambda: card)
    np.testing.assert_array_equal(faiss.serialize_index(helped), faiss.serialize_index(alone))
    assert sum(it.startswith(line) for it in messages()) == 1


def test_k_means_that_fails_inside_faiss_is_done_again_on_the_cpu(fake, card, build, messages, monkeypatch):
    alone = build(IVF_FLAT)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda *_: faiss.IndexFlat(5))  # not the rows' dimension
    helped = build(IVF_FLAT, find_card=lambda: card)
    np.testing.assert_array_equal(faiss.serialize_index(helped), faiss.serialize_index(alone))
    assert messages()[0].startswith("The CPU does the k-means: Error in")
    assert len(messages()) == 1


def test_k_means_needs_room(card, cuda, build, messages):
    cuda.free[1] = 2 * GIB
    build(IVF_FLAT, find_card=lambda: card)
    assert messages() == ["The CPU does the k-means: k-means takes 1024 MiB, Fake 9000 has room for 512"]


def test_adding_needs_room(fake, card, cuda, build, messages):
    made = build(IVF_FLAT)
    cuda.free[1] = 3 * GIB // 2
    gpu.Adder(made, card).add(normal_rows(5, 16))
    assert made.ntotal == 3005
    assert messages() == ["The CPU goes on with adding rows: the centroids take 0 MiB, Fake 9000 has room for 0"]


def test_an_error_of_the_rows_is_no_failure_of_the_gpu(card, build):
    rows = normal_rows(300, 16)
    rows[7, 2] = 1e19
    with pytest.raises(index.UserError, match="came"):
        build(IVF_FLAT, rows=rows, find_card=lambda: card)
