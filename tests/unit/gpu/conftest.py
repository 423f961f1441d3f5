import logging

import faiss
import numpy as np
import pytest
from fake_gpu import DEVICE, GIB, FakeCuda, FakeFaiss

from knn_container import gpu, index
from knn_container.gpu import finding, runtime
from knn_container.index import IVF_PQ, IndexSpec
from knn_container.metric import Metric


@pytest.fixture
def fake(monkeypatch):
    faked = FakeFaiss()
    monkeypatch.setattr(faiss, "StandardGpuResources", faked.resources, raising=False)
    monkeypatch.setattr(faiss, "GpuClonerOptions", faked.options, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", faked.index_cpu_to_gpu, raising=False)
    return faked


@pytest.fixture
def cuda(monkeypatch):
    fake_cuda = FakeCuda(names=("Other", "Fake 9000"), free=(GIB, 8 * GIB))
    monkeypatch.setattr(runtime, "load", lambda: fake_cuda)
    return fake_cuda


@pytest.fixture
def card(fake, cuda):
    return gpu.Card(DEVICE)


@pytest.fixture
def found(card, monkeypatch):
    """What `gpu.find` finds."""
    monkeypatch.setattr(gpu, "find", lambda: card)
    return card


@pytest.fixture
def messages(caplog):
    caplog.set_level(logging.INFO, "knn_container")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def fresh():
    """Has `find` look again."""
    finding._find.cache_clear()
    yield
    finding._find.cache_clear()


@pytest.fixture
def build(blocks_of):
    """Builds an index of 3,000 rows of 16 columns, or of those given."""

    def build_(kind, metric=Metric.L2, rows=None, nlist=20, pq_m=4, **options):
        rows = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32) if rows is None else rows
        spec = IndexSpec(kind, metric, nlist, pq_m if kind == IVF_PQ else None)
        return index.build(spec, len(rows), rows.shape[1], blocks_of(rows), **options)

    return build_


@pytest.fixture
def gpu_wins(monkeypatch):
    """The GPU wins every trial, whatever the clock says."""
    falling = iter(range(0, -(10**6), -1))

    def seconds(work):
        work()
        return next(falling)

    monkeypatch.setattr("knn_container.search.candidates._seconds", seconds)
