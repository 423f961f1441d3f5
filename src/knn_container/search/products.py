"""The engine that multiplies matrices, for all metrics."""

import faiss
import numpy as np

from knn_container.batch import Float32Array, Float64Array, Int64Array
from knn_container.metric import Metric, row_lengths, unit_rows
from knn_container.search.engines import EPSILON, LARGEST, PRODUCTS, TINY, direct_limit
from knn_container.search.minima import GROUP, Values, smallest
from knn_container.search.neighbours import SPARE, slices
from knn_container.search.threads import spread

_MINIMA = 1 << 23  # that are kept at a time: 32 MiB
_SMALL, _WIDE = 1 << 13, 64  # rows, and rows for each candidate, up to which all values are kept
_WORTH_A_THREAD = 8  # queries for which candidates are chosen
_EXTREME = 1e15  # times shorter or longer rows than this lose digits


class Products:
    """Brute force in float32 by matrix products.

    Args:
        rows: (n, d).
        metric: what makes rows near.
    """

    name = PRODUCTS
    spare = SPARE

    def __init__(self, rows: Float32Array, metric: Metric) -> None:
        self._rows = rows
        self._metric = metric
        self._scales: Float32Array | None = None
        self._longest = 0.0
        if metric is not Metric.L2:
            lengths = np.concatenate([np.empty(0), *spread(self._lengths, len(rows), 1 << 14)])
            self._longest = float(lengths.max(initial=0))
        if metric is Metric.COSINE:
            shortest = float(lengths.min(initial=1, where=lengths > 0))
            self._scales = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0).astype(np.float32)
            self._longest = 1.0 if shortest > 1 / _EXTREME and self._longest < _EXTREME else np.inf
        self._values = Values(rows, distances=metric is Metric.L2, scales=self._scales)
        if metric is Metric.L2:
            self._longest = self._values.longest

    def _lengths(self, part: slice) -> Float64Array:
        return np.concatenate([row_lengths(block) for block in slices(self._rows[part])])

    def propose(self, queries: Float32Array, wanted: int) -> tuple[Float64Array, Int64Array]:
        """As `Engine.propose`: `last` has the smallest value and the smallest distance that were left out."""
        with np.errstate(over="ignore", invalid="ignore"):
            asked = self._values.asked(unit_rows(queries) if self._metric is Metric.COSINE else queries)
        shift = self._values.shifts(len(queries))
        group = 1 if len(self._rows) <= max(_SMALL, _WIDE * wanted) else GROUP
        step = max(1, min(_MINIMA * group // len(self._rows), _MINIMA // (wanted * group)))
        last = np.empty((len(queries), 2), np.float32)
        candidates = np.empty((len(queries), wanted), np.int64)
        for start in range(0, len(queries), step):
            minima = self._values.minima(asked[start : start + step], group, shift=shift)

            def choose(part: slice, start: int = start, minima: Float32Array = minima) -> None:
                here = slice(start + part.start, start + part.stop)
                places, last[here, 0] = smallest(minima[part], min(wanted, minima.shape[1]))
                if group > 1:
                    members = self._values.members(places, len(minima), group)
                    near = self._compare(asked[here] if self._scales is not None else queries[here], members)
                    chosen, last[here, 1] = smallest(near, wanted)
                    places = np.take_along_axis(members, chosen, axis=1)
                else:
                    last[here, 1] = np.inf
                candidates[here] = places

            spread(choose, len(minima), _WORTH_A_THREAD)
        return last.astype(np.float64), candidates

    def _compare(self, queries: Float32Array, rows: Int64Array) -> Float32Array:
        """Squared distances, or similarities with their sign changed, of each query to (n, m) rows of its own."""
        queries, values = np.ascontiguousarray(queries), np.empty(rows.shape, np.float32)
        arrays = [faiss.swig_ptr(it) for it in (values, queries, self._rows, rows)]
        if self._metric is Metric.L2:
            faiss.fvec_L2sqr_by_idx(*arrays, self._rows.shape[1], *rows.shape)
            return values
        faiss.fvec_inner_products_by_idx(*arrays, self._rows.shape[1], *rows.shape)
        if self._scales is not None:
            with np.errstate(invalid="ignore"):  # of rows that are none
                values *= self._scales[rows]
        return np.where(rows >= 0, -values, np.float32(np.inf))

    def limit(self, queries: Float32Array, worst: Float32Array, last: Float64Array) -> Float32Array:
        """As `Engine.limit`."""
        values, compared = last.T
        columns = queries.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            if self._metric is not Metric.L2:
                lengths = 1.0 if self._metric is Metric.COSINE else row_lengths(queries)
                off = 2 * (columns + 8) * EPSILON * lengths * self._longest + columns * TINY
                # Of numbers whose sum is small, the first may already be too large for float32.
                largest = 0.0 if self._metric is Metric.COSINE else 2 * lengths * self._longest
                safe = (off < LARGEST) & (largest < LARGEST)
                return np.where(safe, -np.minimum(values, compared) + off, LARGEST).astype(np.float32)
            lengths = row_lengths(self._values.asked(queries))
            shift = self._values.shifts(len(queries))
            limit = values + np.square(lengths) - self._values.bound(lengths, worst.astype(np.float64), shift=shift)
            limit = np.minimum(np.minimum(limit, direct_limit(compared, columns)), LARGEST)
            # Where values overflow, nothing is certain.
            safe = 4 * np.square(lengths + self._longest) < LARGEST
            return np.where(safe, limit, -1).astype(np.float32)
