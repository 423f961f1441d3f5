"""How many of the true neighbours an index finds: recall@k.

It is measured with rows of the index as queries. Each is held back from its own search: neither among its true
neighbours nor among those found does it count itself, and a graph is searched without the edges that lead from it. Of
a graph the figure errs on the safe side: rows that were joined by way of the query are joined no more.
Neighbours count by distance (Aumueller, Bernhardsson and Faithfull, "ANN-Benchmarks", 2020): one that is as near as
the true k-th is no miss, whichever of several equal rows it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import faiss
import numpy as np

from knn_container import index
from knn_container.batch import BoolArray, Float32Array, Int64Array
from knn_container.index import FLAT, IndexSpec
from knn_container.metric import Metric, nearest
from knn_container.reduction import Projection
from knn_container.sampling import Sample
from knn_container.search import Search, search_for
from knn_container.search.brute_force import Products
from knn_container.search.neighbours import parts

_FEWEST, MOST = 32, 1000  # queries
_BLOCK = 1 << 22  # numbers of the rows that queries are compared with at a time: 16 MiB
# Multiplications and additions for all true neighbours together, about 1.3 seconds on two cores, and how many of them
# one number of a candidate takes, whose distance is computed anew in float64.
_WORK, _ANEW = 10**11, 200


@dataclass(frozen=True)
class Recall:
    """What was measured.

    Attributes:
        value: the share of the k nearest rows that was found, from 0 to 1, over all queries.
        k: neighbours of a query.
        queries: how many rows were asked for.
        nprobe: inverted lists that each looked into; None without such lists.
    """

    value: float
    k: int
    queries: int
    nprobe: int | None

    def check(self) -> None:
        """Checks values that come from outside.

        Raises:
            ValueError: a value cannot be.
        """
        counts = [self.k, self.queries, *([] if self.nprobe is None else [self.nprobe])]
        known = type(self.value) in (int, float) and 0 <= self.value <= 1
        if not known or not all(type(count) is int and count > 0 for count in counts):
            raise ValueError(f"there is no recall {self}")


def measure(sample: Sample, spec: IndexSpec, built: faiss.Index, k: int, nprobe: int) -> Recall | None:
    """Measures an index of a sample.

    Args:
        sample: n rows.
        spec: what the index was built from.
        built: as `index.build` makes it of these rows.
        k: neighbours; n - 1 of them where there are fewer others.
        nprobe: inverted lists that a query looks into.

    Returns:
        The recall, which depends on no clock and no number of threads; None of an exact index, and of a single row.
    """
    if spec.index_type == FLAT or len(sample) < 2:
        return None
    search = search_for(built, spec.metric, nprobe, index.zero_rows(spec, sample.blocks(_BLOCK // built.d + 1)))
    return HeldBack(sample, spec.metric, k, spec.seed).recall(built, search, nprobe)


class HeldBack:
    """Rows that are asked for, drawn at random, and how far their true neighbours are.

    There are at most 1,000, and fewer where there is much to compare them with: 182 of 4,000,000 x 128 for k=10.

    Args:
        sample: n rows, two at least.
        metric: what makes rows near.
        k: neighbours; n - 1 of them where there are fewer others.
        seed: of the choice.
        most: how many rows at most.

    Attributes:
        queries: (m, d) the rows.
        k: neighbours.
    """

    def __init__(self, sample: Sample, metric: Metric, k: int, seed: int, most: int = MOST) -> None:
        self._sample = sample
        self._metric = metric
        self.k = min(k, len(sample) - 1)
        count = min(len(sample), most, _queries(len(sample), sample.features.shape[1], self.k))
        self._numbers: Int64Array = np.sort(np.random.default_rng(seed).choice(len(sample), count, replace=False))
        self.queries = self._rows(self._numbers)
        self._farthest = self._true_values()[:, -1:]

    def _rows(self, numbers: Int64Array) -> Float32Array:
        """Rows by their numbers in data order."""
        order = self._sample.order
        rows: Float32Array = self._sample.features[numbers if order is None else order[numbers]]
        return rows

    def _true_values(self) -> Float32Array:
        """(m, k) values of the nearest other rows, by the exact search of one block of rows after the other."""
        wanted, start, width = self.k + 1, 0, self.queries.shape[1]
        values, rows = np.empty((len(self.queries), 0), np.float32), np.empty((len(self.queries), 0), np.int64)
        for block in self._sample.blocks(max(1, _BLOCK // width)):
            found = Products(block, self._metric).search(self.queries, wanted)
            values = np.concatenate([values, found.values], axis=1)
            rows = np.concatenate([rows, np.where(found.rows < 0, -1, found.rows + start)], axis=1)
            values, rows = nearest(self._metric, values, rows, wanted)
            start += len(block)
        return np.take_along_axis(values, self._others(rows, self._numbers), axis=1)

    @staticmethod
    def _others(rows: Int64Array, own: Int64Array) -> Int64Array:
        """The places of the first k of (m, k + 1) row numbers that are not a query's own."""
        return np.argsort(rows == own[:, np.newaxis], axis=1, kind="stable")[:, :-1]

    def recall(self, built: faiss.Index, search: Search, nprobe: int, project: Projection | None = None) -> Recall:
        """Measures an index of the sample.

        Args:
            built: the index.
            search: of the index.
            nprobe: inverted lists to look into.
            project: turns rows of the sample into those of the index; None where they are the same.
        """
        queries = self.queries if project is None else project(self.queries)
        asked = np.ones(len(queries), bool)
        if isinstance(built, faiss.IndexHNSW):
            asked = _on_lowest_level(built, self._numbers)
            found = np.full((len(queries), self.k + 1), -1, np.int64)
            for place in np.flatnonzero(asked):
                with _without_edges(built, int(self._numbers[place])):
                    found[place] = search(queries[place : place + 1], self.k + 1).rows
        else:
            found = search(queries, self.k + 1, nprobe).rows
        found = np.take_along_axis(found, self._others(found, self._numbers), axis=1)
        hits = self._hits(found)[asked]
        lists = min(nprobe, built.nlist) if isinstance(built, faiss.IndexIVF) else None
        return Recall(round(int(hits.sum()) / hits.size, 6), self.k, len(hits), lists)

    def _hits(self, found: Int64Array) -> BoolArray:
        """Which of (m, k) rows are as near as the true k-th."""
        hits = np.zeros(found.shape, bool)
        for part in parts(len(found), found.shape[1] * self.queries.shape[1]):
            values = self._metric.between(self.queries[part], self._rows(found[part]))
            farthest = self._farthest[part]
            hits[part] = values >= farthest if self._metric.is_similarity else values <= farthest
        return hits & (found >= 0)


def _queries(rows: int, width: int, k: int) -> int:
    blocks = -(-rows * width // _BLOCK)
    each = width * (rows + _ANEW * blocks * (k + 1))
    return max(_FEWEST, _WORK // each)


def _on_lowest_level(graph: faiss.IndexHNSW, numbers: Int64Array) -> BoolArray:
    """Which rows can be held back: a search passes through the others on its way to the lowest level.

    These are drawn at random too, 31 of 32 rows. Of a handful of rows there may be none, then all count.
    """
    lowest = faiss.vector_to_array(graph.hnsw.levels)[numbers] == 1
    lowest &= numbers != graph.hnsw.entry_point
    return lowest if lowest.any() else np.ones(len(numbers), bool)


@contextmanager
def _without_edges(graph: faiss.IndexHNSW, row: int) -> Iterator[None]:
    """Takes away the edges that lead from a row on the lowest level, as if it were not in the graph."""
    hnsw = graph.hnsw
    start, end = (hnsw.offsets.at(row), hnsw.offsets.at(row) + hnsw.nb_neighbors(0))
    edges = faiss.rev_swig_ptr(hnsw.neighbors.data(), hnsw.neighbors.size())[start:end]
    kept = edges.copy()
    edges[:] = -1
    try:
        yield
    finally:
        edges[:] = kept
