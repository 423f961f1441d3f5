"""Requests that are searched for together are answered as each alone."""

import threading
import weakref
from queue import SimpleQueue

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knn_container import index as indexes
from knn_container.batch import SparseRows
from knn_container.metric import Metric
from knn_container.model import Model, ModelOptions
from knn_container.reduction import Reduction
from knn_container.serving import gathering
from knn_container.serving.gathering import Gatherer
from knn_container.serving.turns import CpuTurns
from knn_container.voting import Aggregation, Weights

COLUMNS = 8


def make_model(index_type="faiss.Flat", metric=Metric.L2, reduction=None, weights=Weights.UNIFORM):
    rows = np.random.default_rng(0).normal(size=(3000, COLUMNS)).astype(np.float32)
    spec = indexes.IndexSpec(index_type, metric, nlist=8, pq_m=4 if index_type == "faiss.IVFPQ" else None)
    index = indexes.build(spec, len(rows), COLUMNS, lambda size: iter([rows]))
    options = ModelOptions(COLUMNS, 5, "classifier", metric, 2, weights, Aggregation.MEAN, reduction)
    return Model(index, np.arange(len(rows)) % 7, np.arange(len(rows)), options)


MODELS = {
    name: make_model(name)
    for name in (
        "faiss.Flat",
        "faiss.IVFFlat",
        "faiss.IVFPQ",
        "faiss.SQfp16",
        "faiss.SQ8",
        "faiss.IVFSQ8",
        "faiss.HNSW",
    )
} | {
    "COSINE": make_model(metric=Metric.COSINE),
    "by distance": make_model(weights=Weights.DISTANCE),
}


class Held(Gatherer):
    """Searches only when it is told to, so that requests gather."""

    def __init__(self):
        super().__init__(CpuTurns(1))
        self.groups = []
        self._held = threading.Event()
        self._pool.submit(self._held.wait)

    def _next_group(self):
        group = super()._next_group()
        if group:
            self.groups.append([len(asked.features) for asked in group])
        return group

    def answers(self, model, requests):
        """Gives the answers in the order of the requests: features, k, nprobe."""
        answers, done = [None] * len(requests), threading.Semaphore(0)

        def take(number):
            def deliver(answer):
                answers[number] = answer
                done.release()

            return deliver

        for number, (features, k, nprobe) in enumerate(requests):
            self.ask(model, features, k, nprobe, take(number))
        self._held.set()
        for _ in requests:
            assert done.acquire(timeout=60)
        return answers


def same(one, other):
    pairs = [
        (one.predicted, other.predicted),
        (one.neighbours.rows, other.neighbours.rows),
        (one.neighbours.values, other.neighbours.values),
        (one.weights, other.weights),
    ]
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


REQUESTS = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from([None, 1, 3, 5]), st.sampled_from([None, 1, 8])),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=15)
@given(REQUESTS, st.integers(0, 2**32 - 1))
def test_gathered_equals_alone(name, shapes, seed):
    model, rng = MODELS[name], np.random.default_rng(seed)
    requests = [(rng.normal(size=(n, COLUMNS)).astype(np.float32), k, nprobe) for n, k, nprobe in shapes]
    gatherer = Held()
    for (features, k, nprobe), answer in zip(requests, gatherer.answers(model, requests), strict=True):
        assert same(answer, model.predict(features, k, nprobe))
    # What goes together did: the model's k is 5.
    assert len(gatherer.groups) == len({(k or 5, nprobe) for _, k, nprobe in requests})


def test_a_reduction_gives_gathered_rows_the_same_projection():
    rows = np.random.default_rng(0).normal(size=(500, 40)).astype(np.float32)
    flat = faiss.IndexFlatL2(6)
    flat.add(rows[:, :6].copy())
    options = ModelOptions(
        40, 3, "classifier", Metric.L2, 1, Weights.UNIFORM, Aggregation.MEAN, Reduction("sign", 6, 1)
    )
    model = Model(flat, np.arange(500) % 3, np.arange(500), options)
    requests = [(rows[number : number + 1], None, None) for number in range(30)]
    for (features, _, _), answer in zip(requests, Held().answers(model, requests), strict=True):
        assert same(answer, model.predict(features))


def test_rows_are_counted_and_not_requests():
    rows = np.zeros((gathering.MOST_ROWS, COLUMNS), np.float32)
    sizes = [100, 100, 100, 50, gathering.MOST_ROWS, 6]
    gatherer = Held()
    gatherer.answers(MODELS["faiss.Flat"], [(rows[:size], None, None) for size in sizes])
    assert gatherer.groups == [[100, 100, 50, 6], [100], [256]]


def test_a_larger_request_than_a_group_may_be_goes_alone():
    gatherer = Held()
    large = np.zeros((gathering.MOST_ROWS + 1, COLUMNS), np.float32)
    gatherer.answers(MODELS["faiss.Flat"], [(large, None, None), (large[:1], None, None)])
    assert gatherer.groups == [[257], [1]]


def test_sparse_rows_go_alone_and_are_answered():
    model, gatherer = MODELS["faiss.Flat"], Held()
    dense = np.zeros((1, COLUMNS), np.float32)
    dense[0, 3] = 1.5
    sparse = SparseRows.of([np.float32([1.5])], [[3]], COLUMNS)
    answers = gatherer.answers(model, [(dense, None, None), (sparse, None, None), (dense, None, None)])
    assert gatherer.groups == [[1, 1], [1]]
    assert all(same(answer, model.predict(dense)) for answer in answers)


def test_models_are_not_mixed():
    one, other = make_model(), make_model(metric=Metric.INNER_PRODUCT)
    gatherer, answers = Gatherer(CpuTurns(1)), {}
    row = np.ones((1, COLUMNS), np.float32)
    done = threading.Semaphore(0)
    for name, model in (("one", one), ("other", other)) * 20:
        gatherer.ask(model, row, None, None, lambda answer, name=name: (answers.update({name: answer}), done.release()))
    for _ in range(40):
        assert done.acquire(timeout=60)
    assert same(answers["one"], one.predict(row))
    assert same(answers["other"], other.predict(row))


class Picky:
    """Refuses rows whose first column is negative."""

    def __init__(self, model):
        self.options = model.options
        self.calls = []
        self._model = model

    def predict(self, features, k, nprobe):
        self.calls.append(len(features))
        if (features[:, 0] < 0).any():
            raise ValueError("negative")
        return self._model.predict(features, k, nprobe)


def test_a_search_that_fails_fails_only_those_requests_that_fail_alone():
    model = Picky(MODELS["faiss.Flat"])
    requests = [(np.full((1, COLUMNS), value, np.float32), None, None) for value in (1, -1, 2)]
    first, failed, last = Held().answers(model, requests)
    assert isinstance(failed, ValueError)
    assert same(first, MODELS["faiss.Flat"].predict(requests[0][0]))
    assert same(last, MODELS["faiss.Flat"].predict(requests[2][0]))
    assert model.calls == [3, 1, 1, 1]


def test_a_failure_is_raised_where_it_is_waited_for_and_the_next_request_is_answered():
    gatherer, model = Gatherer(CpuTurns(1)), Picky(MODELS["faiss.Flat"])
    with pytest.raises(ValueError, match="negative"):
        gatherer.predict(model, np.full((1, COLUMNS), -1, np.float32))
    assert gatherer.predict(model, np.ones((1, COLUMNS), np.float32)).predicted.shape == (1,)


def test_an_answer_that_cannot_be_delivered_stops_no_other(caplog):
    gatherer, model = Gatherer(CpuTurns(1)), MODELS["faiss.Flat"]

    def broken(answer):
        raise OSError("gone")

    gatherer.ask(model, np.ones((1, COLUMNS), np.float32), None, None, broken)
    assert gatherer.predict(model, np.ones((1, COLUMNS), np.float32)).predicted.shape == (1,)
    assert "An answer cannot be delivered" in caplog.text


def test_a_model_that_is_forgotten_is_gone_when_its_last_answer_comes():
    model, gatherer = make_model(), Gatherer(CpuTurns(1))
    left, forgotten, found = weakref.ref(model), threading.Event(), SimpleQueue()
    gatherer._pool.submit(forgotten.wait)
    gatherer.ask(model, np.zeros((1, COLUMNS), np.float32), None, None, lambda _answer: found.put(left()))
    del model
    forgotten.set()
    assert found.get(timeout=60) is None
