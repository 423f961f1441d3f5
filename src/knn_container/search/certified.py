"""Exact search with an engine that proposes candidates."""

from collections.abc import Callable
from typing import Protocol

import faiss
import numpy as np

from knn_container import kernels
from knn_container.batch import BoolArray, Float32Array, Float64Array, Int64Array
from knn_container.metric import Metric
from knn_container.search.neighbours import SPARE, Neighbours

BruteForce = Callable[[Float32Array, int], Neighbours]

_CANDIDATES = 1 << 22  # that are held at a time


class Proposer(Protocol):
    """Proposes candidates with a bound on what it may have left out; safe to use from several threads at once.

    A proposal holds the true neighbours for certain if the k-th of its candidates, computed exactly, is nearer than
    any row outside can be.
    """

    @property
    def name(self) -> str:
        """As `Engine.name`."""

    @property
    def spare(self) -> int:
        """How many candidates beyond k are worth asking for."""

    def propose(self, queries: Float32Array, wanted: int) -> tuple[Float64Array, Int64Array]:
        """Gives the nearest rows as the engine computes it.

        Args:
            queries: (n, d) finite.
            wanted: how many, at most a quarter of the rows.

        Returns:
            (n,) what `limit` needs, and (n, wanted) row numbers, -1 for none.
        """

    def limit(self, queries: Float32Array, worst: Float32Array, last: Float64Array) -> Float32Array:
        """The nearest value that a row outside the candidates can have, rounded as `Metric.between` rounds.

        Args:
            queries: (n, d) as `propose` took them.
            worst: (n,) exact value of the k-th neighbour found.
            last: as `propose` gave it.
        """


class Certified:
    """An `Engine` that answers from candidates, and asks another where they do not hold the answer for certain.

    Args:
        proposer: gives k candidates and some more; queries that these do not settle are asked again with more of them.
        otherwise: searches for those that are not settled then, and where most rows would be candidates.
        rows: (n, d).
        metric: what makes rows near.
    """

    def __init__(self, proposer: Proposer, otherwise: BruteForce, rows: Float32Array, metric: Metric) -> None:
        self.name = proposer.name
        self._proposer = proposer
        self._otherwise = otherwise
        self._rows = rows
        self._metric = metric

    def search(self, queries: Float32Array, k: int) -> Neighbours:
        """As `Engine.search`."""
        return self._search(queries, k, k + self._proposer.spare)

    def _search(self, queries: Float32Array, k: int, wanted: int) -> Neighbours:
        if 4 * wanted >= len(self._rows):
            return self._otherwise(queries, k)
        if len(queries) * wanted > _CANDIDATES and len(queries) > 1:
            step = max(1, _CANDIDATES // wanted)
            some = [self._search(queries[start : start + step], k, wanted) for start in range(0, len(queries), step)]
            return Neighbours(np.concatenate([it.rows for it in some]), np.concatenate([it.values for it in some]))
        found, certain = self._attempt(queries, k, wanted)
        if not certain.all():
            unsettled = queries[~certain]
            more = k + SPARE
            again = self._search(unsettled, k, more) if wanted < more else self._otherwise(unsettled, k)
            found.rows[~certain], found.values[~certain] = again.rows, again.values
        return found

    def _attempt(self, queries: Float32Array, k: int, wanted: int) -> tuple[Neighbours, BoolArray]:
        """Searches with `wanted` candidates; says for which queries the answer is certain."""
        last, candidates = self._proposer.propose(queries, wanted)
        values, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        threads = faiss.omp_get_max_threads()
        kernels.search_listed(self._metric.number, candidates, queries, self._rows, values, rows, threads)
        worst = values[:, -1]
        limit = self._proposer.limit(queries, worst, last)
        certain = worst > limit if self._metric.is_similarity else worst < limit
        # Where float32 overflows, FAISS leaves candidates out.
        return Neighbours(rows, values), certain & (candidates >= 0).all(axis=1)
