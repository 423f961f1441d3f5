"""Exact search's brute force on a GPU."""

import logging
from collections.abc import Callable

import faiss
import numpy as np

from knn_container import gpu
from knn_container.batch import Float32Array, Float64Array, Int64Array
from knn_container.metric import Metric, row_lengths, unit_rows
from knn_container.search.engines import EPSILON, GPU, LARGEST, TINY
from knn_container.search.neighbours import SPARE, slices

log = logging.getLogger(__name__)


def flat_on_card(
    index: faiss.IndexFlat, rows: Float32Array, metric: Metric, on_failure: Callable[[], None]
) -> "FlatOnCard | None":
    """Makes the engine if there is a GPU that has room for it; the log says why not.

    Args:
        index: of the rows as they came.
        rows: (n, d), the same.
        metric: what makes rows near.
        on_failure: called once the GPU has failed, after which the engine is of no more use.
    """
    card = gpu.find()
    if card is None:
        return None
    try:
        if reason := gpu.obstacle(card, index):
            log.info("The CPU searches: %s.", reason)
            return None
        return FlatOnCard(card, index, rows, metric, on_failure)
    except gpu.FAILURES as error:
        log.warning("The CPU searches: %s", error)
        return None


class FlatOnCard:
    """Brute force in float32 by matrix products on a GPU; an `Engine`, safe to use from several threads at once.

    FAISS computes |x|^2 + |q|^2 - 2xq there, for every number of queries, in float32 (`gpu.find` has made sure that
    it is). The bounds on rounding hold for any order of the sums: Higham, "Accuracy and Stability of Numerical
    Algorithms", section 3.1, with twice the unit roundoff.

    Args:
        card: where.
        index: of the rows as they came.
        rows: (n, d), the same.
        metric: what makes rows near.
        on_failure: called once the GPU has failed, after which no candidates are proposed.

    Raises:
        RuntimeError: FAISS or the GPU cannot.
    """

    name = GPU
    spare = SPARE

    def __init__(
        self,
        card: gpu.Card,
        index: faiss.IndexFlat,
        rows: Float32Array,
        metric: Metric,
        on_failure: Callable[[], None],
    ) -> None:
        self._failed = False
        self._on_failure = on_failure
        self._card = card
        self._metric = metric
        self._longest = max((float(row_lengths(block).max()) for block in slices(rows)), default=0.0)
        self._copy = card.copy(_unit_index(rows) if metric is Metric.COSINE else index)

    def propose(self, queries: Float32Array, wanted: int) -> tuple[Float64Array, Int64Array]:
        """As `Proposer.propose`; after a failure, and beyond what a GPU can give, there are no candidates."""
        if wanted <= gpu.LARGEST and not self._failed:
            asked = unit_rows(queries) if self._metric is Metric.COSINE else queries
            try:
                with self._card.lock:
                    values, candidates = self._copy.search(asked, wanted)
            except gpu.FAILURES as error:
                self._failed = True
                log.warning("The CPU searches from now on: %s", error)
                self._on_failure()
            else:
                return values[:, -1].astype(np.float64), candidates
        return np.full(len(queries), np.nan), np.full((len(queries), wanted), -1, np.int64)

    def limit(self, queries: Float32Array, worst: Float32Array, last: Float64Array) -> Float32Array:
        """As `Proposer.limit`; it is NaN, which is no limit, where float32 may overflow."""
        columns = queries.shape[1]
        relative = (columns + 8) * EPSILON
        lengths = row_lengths(queries)
        if self._metric is Metric.COSINE:
            limit, largest = last + 2 * relative, np.ones_like(last)
        elif self._metric is Metric.INNER_PRODUCT:
            largest = lengths * self._longest
            limit = last + relative * largest + columns * TINY
        else:
            # The error is a share of (|x| + |q|)^2; by the triangle inequality no row with |x| > |q| + the k-th
            # distance matters.
            largest = np.square(2 * lengths + np.sqrt(worst, dtype=np.float64))
            limit = last - relative * largest - columns * TINY
        with np.errstate(over="ignore"):
            return np.where(4 * largest < LARGEST, limit, np.nan).astype(np.float32)


def _unit_index(rows: Float32Array) -> faiss.IndexFlat:
    index = faiss.IndexFlat(rows.shape[1], faiss.METRIC_INNER_PRODUCT)
    for block in slices(rows):
        index.add(unit_rows(block))
    return index
