"""Tries an index on rows: how much it finds, how fast, and in how many bytes."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import faiss
import numpy as np

from knn_container import gpu, index
from knn_container.batch import Float32Array
from knn_container.hyperparameter_table import PQ_M
from knn_container.index import FLAT, IVF_PQ, IVF_RABITQ, IndexSpec
from knn_container.metric import Metric
from knn_container.recall import HeldBack, Recall
from knn_container.reduction import ROTATION, Reduction, project_for
from knn_container.sampling import Sample
from knn_container.search import Search, search_for

_BATCH = 256  # queries in the batch that is timed
_ALONE = 100  # queries at most that are timed alone, and the seconds that this may take
_SECONDS = 0.1
_ROWS_PER_LIST, _LEAST_LISTS = 256, 256  # that `index.build` trains on
_MANY = 10**9  # queries that are still to come: a server's

log = logging.getLogger(__name__)


class Stopped(Exception):  # noqa: N818 (no error: the job is to end)
    """The job is to end."""


@dataclass(frozen=True)
class Trial:
    """One line of the table; what is not known or has no meaning is None.

    Attributes:
        index_type: the FAISS index.
        rows: of how many rows it was.
        nlist: inverted lists.
        nprobe: of which so many are looked into.
        pq_m: bytes of a code under product quantisation.
        recall: the share of the true neighbours that was found.
        milliseconds: of a query alone, in one thread.
        milliseconds_in_batch: of a query among 256, with all CPUs.
        bytes: of `index.faiss`.
        build_seconds: how long it took to build.
        reached: whether it finds as many as are asked for.
        chosen: whether it became the model.
        left_out: why there are no figures.
    """

    index_type: str
    rows: int
    nlist: int | None = None
    nprobe: int | None = None
    pq_m: int | None = None
    recall: float | None = None
    milliseconds: float | None = None
    milliseconds_in_batch: float | None = None
    bytes: int | None = None
    build_seconds: float | None = None
    reached: bool = False
    chosen: bool = False
    left_out: str | None = None

    @classmethod
    def of(cls, spec: IndexSpec, rows: int, **figures: Any) -> "Trial":
        """A line about an index of so many rows."""
        return cls(spec.index_type, rows, nlist=spec.nlist, pq_m=spec.pq_m, **figures)

    def __str__(self) -> str:
        lists = f", {self.nprobe or '?'} of {self.nlist} lists" if self.nlist else ""
        name = f"{self.index_type} of {self.rows} rows{lists}"
        if self.milliseconds is None:
            return f"{name}: {self.left_out or 'not measured'}"
        return (
            f"{name}: recall {self.recall:.4f}, {self.milliseconds:.3f} ms a query alone, "
            f"{self.milliseconds_in_batch:.3f} in a batch, {self.bytes} bytes, built in {self.build_seconds:.1f} s"
        )


@dataclass(frozen=True)
class Plan:
    """What is built, and of how projected rows.

    Attributes:
        spec: what to build.
        width: columns of a row in the index.
        reduction: how rows are projected beyond what they have been; None if they are not.
    """

    spec: IndexSpec
    width: int
    reduction: Reduction | None = None

    def bytes_needed(self, rows: int) -> int:
        """What the index takes while it is built: its codes, and the rows that k-means sees."""
        trained_on = min(rows, _ROWS_PER_LIST * max(_LEAST_LISTS, self.spec.nlist or 0))
        return rows * index.bytes_per_row(self.spec, self.width) + 4 * self.width * trained_on


class Bench:
    """Rows on which indexes are tried.

    Args:
        sample: n rows, two at least.
        metric: what makes rows near.
        k: neighbours that are asked for.
        seed: of k-means and of the rows that are held back.
        queries: how many rows are held back at most.
        reduced: whether the rows have been projected; else an index may have them projected.
        stopped: whether the job is to end.
    """

    def __init__(
        self,
        sample: Sample,
        metric: Metric,
        k: int,
        seed: int,
        *,
        queries: int,
        reduced: bool,
        stopped: Callable[[], bool],
    ) -> None:
        self.rows, self._columns = sample.features.shape
        self._sample = sample
        self._metric = metric
        self._seed = seed
        self._reduced = reduced
        self._stopped = stopped
        self._held_back = HeldBack(sample, metric, k, seed, queries)

    def plan(self, kind: str, lists: int) -> Plan:
        """What an index of these rows is.

        Args:
            kind: the index type.
            lists: inverted lists as a multiple of the square root of the number of rows; 0 for none.
        """
        nlist = min(self.rows, int(lists * self.rows**0.5)) if lists else None
        spec = IndexSpec(kind, self._metric, nlist, self._code_bytes() if kind == IVF_PQ else None, self._seed)
        rotates = kind == IVF_RABITQ and not self._reduced
        reduction = Reduction(ROTATION, self._columns, self._seed) if rotates else None
        return Plan(spec, index.padded(self._columns, spec.pq_m), reduction)

    def _code_bytes(self) -> int:
        """Half a byte or more for a column, if that can be; rows of a given dimension are not padded."""
        fitting = [m for m in PQ_M if not (self._reduced and self._columns % m)]
        return max(m for m in fitting if m == 1 or 2 * m <= self._columns)

    def _blocks(self, plan: Plan) -> Callable[[int], Iterator[Float32Array]]:
        project = project_for(plan.reduction, self._columns, plan.width)

        def blocks(rows: int) -> Iterator[Float32Array]:
            for block in self._sample.blocks(rows):
                if self._stopped():
                    raise Stopped
                yield project(block)

        return blocks

    def time_exact(self, room: int) -> Trial:
        """Times exact search, with what makes it faster in `room` bytes."""
        plan = self.plan(FLAT, 0)
        built = index.build(plan.spec, self.rows, plan.width, self._blocks(plan))
        search = search_for(built, self._metric, 1)
        search.speed_up(room, queries=_MANY)
        times = self._times(search, self._held_back.queries, 1)
        return Trial.of(plan.spec, self.rows, recall=1.0, **times, bytes=_size(built), build_seconds=0.0, reached=True)

    def build(self, plan: Plan) -> "Tried":
        """Builds an index.

        Raises:
            UserError: the rows do not do for it.
            Stopped: the job is to end.
        """
        started, blocks = time.perf_counter(), self._blocks(plan)
        built = index.build(plan.spec, self.rows, plan.width, blocks, gpu.find)
        seconds = round(time.perf_counter() - started, 3)
        line = Trial.of(plan.spec, self.rows, bytes=_size(built), build_seconds=seconds)
        search = search_for(built, self._metric, 1, index.zero_rows(plan.spec, blocks(_ROWS_PER_LIST)))
        return Tried(line, plan, built, search)

    def measure(self, tried: "Tried", nprobe: int, target: float) -> "Tried":
        """Measures an index with so many lists to look into, if it has any."""
        if self._stopped():
            raise Stopped
        project = project_for(tried.plan.reduction, self._columns, tried.plan.width)
        recall = self._held_back.recall(tried.index, tried.search, nprobe, project)
        times = self._times(tried.search, project(self._held_back.queries), nprobe)
        line = replace(tried.line, nprobe=recall.nprobe, recall=recall.value, **times, reached=recall.value >= target)
        return replace(tried, line=line, recall=recall)

    def _times(self, search: Search, queries: Float32Array, nprobe: int) -> dict[str, Any]:
        """Milliseconds of a query: the median alone, and the better of two batches."""
        k, threads = self._held_back.k, faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            search(queries[:1], k, nprobe)
            alone: list[float] = []
            while len(alone) < min(_ALONE, len(queries)) and sum(alone) < _SECONDS:
                alone.append(_seconds(search, queries[len(alone)][np.newaxis], k, nprobe))
        finally:
            faiss.omp_set_num_threads(threads)
        batch = queries[:_BATCH]
        together = min(_seconds(search, batch, k, nprobe) for _ in range(2)) / len(batch)
        return {"milliseconds": round(1000 * median(alone), 6), "milliseconds_in_batch": round(1000 * together, 6)}


@dataclass(frozen=True)
class Tried:
    """An index with its line of the table.

    Attributes:
        line: what is known of it.
        plan: what it was built from.
        index: of the bench's rows.
        search: of the index.
        recall: as measured last.
    """

    line: Trial
    plan: Plan
    index: faiss.Index
    search: Search
    recall: Recall | None = None


def _size(built: faiss.Index) -> int:
    """Bytes of the file."""
    size = 0

    def count(block: bytes) -> int:
        nonlocal size
        size += len(block)
        return len(block)

    faiss.write_index(built, faiss.PyCallbackIOWriter(count))
    return size


def _seconds(search: Search, queries: Float32Array, k: int, nprobe: int) -> float:
    started = time.perf_counter()
    search(queries, k, nprobe)
    return time.perf_counter() - started
