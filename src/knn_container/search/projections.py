"""The engine that looks at few directions first, for L2.

With orthonormal directions P and r(x) the length of what they leave of x, |Px - Pq|² + (r(x) - r(q))² is never more
than |x - q|²: a bound that takes a few columns in place of all. It pays on long rows with few strong directions, such
as pictures. Directions are those of the largest variance, found in a sample by subspace iteration (Halko, Martinsson
and Tropp, 2011, algorithm 4.4).
"""

from functools import partial

import faiss
import numpy as np

from knn_container.batch import Float32Array, Float64Array, Int64Array
from knn_container.metric import row_lengths
from knn_container.search.engines import EPSILON, LARGEST, PROJECTIONS, TINY, direct_limit
from knn_container.search.minima import Values, smallest
from knn_container.search.threads import spread

_SAMPLE = 1 << 12  # rows in which directions are sought
_ITERATIONS = 3
_STRONG = 0.7  # share of the variance from which directions are strong
_BLOCK = 1 << 20  # numbers that one step projects
_GROUP = 4  # rows whose least bound is kept
_MINIMA = 1 << 22  # of these bounds, at a time: 16 MiB
_SHARE = 4  # part of the groups of rows that a query may have to look at; of others nothing is proposed
_WORTH_A_THREAD = 4  # queries for which candidates are chosen


class Projections:
    """Leaves out rows by their distance in a few directions.

    Args:
        rows: (n, d), n > 0.
    """

    name = PROJECTIONS
    spare = 4

    def __init__(self, rows: Float32Array) -> None:
        self._rows = rows
        self._directions, self._centre, _ = _strongest(rows)
        projected = spread(lambda part: self._project(rows[part]), len(rows), _BLOCK // rows.shape[1])
        self._projected = np.concatenate(projected)
        self._values = Values(self._projected, distances=True)

    @staticmethod
    def may_pay(rows: Float32Array) -> bool:
        """Whether rows have few strong directions."""
        return rows.shape[1] > 2 * _directions(rows.shape[1]) and _strongest(rows)[2] > _STRONG

    @staticmethod
    def bytes_needed(rows: int, columns: int) -> int:
        """What the projected rows take."""
        return 4 * rows * (_directions(columns) + 2)

    def _project(self, rows: Float32Array) -> Float32Array:
        projected = np.empty((len(rows), len(self._directions) + 1), np.float32)
        step = max(1, _BLOCK // rows.shape[1])
        for start in range(0, len(rows), step):
            apart = rows[start : start + step] - self._centre
            strong = apart @ self._directions.T
            rest = np.square(apart).sum(axis=1) - np.square(strong).sum(axis=1)
            projected[start : start + step, :-1] = strong
            projected[start : start + step, -1] = np.sqrt(np.maximum(rest, 0))
        return projected

    def propose(self, queries: Float32Array, wanted: int) -> tuple[Float64Array, Int64Array]:
        """As `Engine.propose`."""
        projected = self._project(queries)
        asked = self._values.asked(projected)
        shift = self._values.shifts(len(queries))
        step = max(1, _MINIMA * _GROUP // len(self._rows))
        last = np.full(len(queries), -1.0)
        candidates = np.full((len(queries), wanted), -1)
        for start in range(0, len(queries), step):
            minima = self._values.minima(asked[start : start + step], _GROUP, shift=shift)

            def choose(part: slice, start: int = start, minima: Float32Array = minima) -> None:
                here = slice(start + part.start, start + part.stop)
                members = partial(self._values.members, asked=len(minima), group=_GROUP)
                few = members(smallest(minima[part], min(wanted, minima.shape[1]))[0])
                near = self._distance_of(queries[here], projected[here], few, wanted)
                lengths = row_lengths(asked[here])
                within = self._within(row_lengths(projected[here]), near)
                reached = within + self._values.bound(lengths, within, shift=shift) - np.square(lengths)
                near_by = minima[part] <= reached[:, np.newaxis]
                near_by[near_by.sum(axis=1) > near_by.shape[1] // _SHARE] = False
                of, groups = np.nonzero(near_by)
                of, rows = np.repeat(of, _GROUP), members(groups[:, np.newaxis]).ravel()
                of, rows = of[rows >= 0], rows[rows >= 0]
                close = _pairs(projected[here], of, self._projected, rows) <= within[of]
                last[here], candidates[here] = self._nearest(queries[here], of[close], rows[close], wanted)

            spread(choose, len(minima), _WORTH_A_THREAD)
        overflows = 4 * np.square(row_lengths(asked) + self._values.longest) >= LARGEST
        candidates[overflows] = -1  # there may be nearer ones
        return last, candidates

    def _distance_of(
        self, queries: Float32Array, projected: Float32Array, rows: Int64Array, wanted: int
    ) -> Float64Array:
        """A squared distance within which each query has `wanted` of (n, m) rows."""
        bounds = _distances(projected, self._projected, rows)
        rows = np.take_along_axis(rows, smallest(bounds, wanted)[0], axis=1)
        return np.asarray(_distances(queries, self._rows, rows).max(axis=1), np.float64)

    def _within(self, lengths: Float64Array, near: Float64Array) -> Float64Array:
        """The largest bound, as float32 has it, of a row within a squared distance of queries of some lengths."""
        near = near * (1 + (self._rows.shape[1] + 8) * EPSILON)
        reach = np.sqrt(near) + 8 * EPSILON * (2 * lengths + np.sqrt(near))
        return np.asarray(np.square(reach) * (1 + (self._projected.shape[1] + 8) * EPSILON))

    def _nearest(
        self, queries: Float32Array, of: Int64Array, rows: Int64Array, wanted: int
    ) -> tuple[Float32Array, Int64Array]:
        """The nearest of some rows to each query: row `rows[i]` is compared with query `of[i]`, which ascends."""
        distances = _pairs(queries, of, self._rows, rows)
        counts = np.bincount(of, minlength=len(queries))
        shape = len(queries), max(wanted, int(counts.max(initial=0)))
        table, numbers = np.full(shape, np.inf, np.float32), np.full(shape, -1)
        places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        table[of, places], numbers[of, places] = distances, rows
        chosen, largest = smallest(table, wanted)
        return largest, np.take_along_axis(numbers, chosen, axis=1)

    def limit(
        self,
        queries: Float32Array,
        worst: Float32Array,  # noqa: ARG002
        last: Float64Array,
    ) -> Float32Array:
        """As `Engine.limit`: whatever was left out is further away than the last candidate."""
        return np.asarray(np.minimum(direct_limit(last, queries.shape[1]), LARGEST), np.float32)


def _directions(columns: int) -> int:
    """How many directions are looked at: with the rest, a multiple of 16 columns."""
    return min(columns, 127 if columns >= 512 else 31 if columns >= 128 else 15)


def _strongest(rows: Float32Array) -> tuple[Float64Array, Float64Array, float]:
    """The (p, d) strongest directions of (n, d) rows, their (d,) mean, and the directions' share of the variance."""
    sample = rows[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE].astype(np.float64)
    centre = sample.mean(axis=0)
    sample -= centre
    directions = np.random.default_rng(0).normal(size=(rows.shape[1], _directions(rows.shape[1])))
    for _ in range(_ITERATIONS):
        directions = np.linalg.qr(sample.T @ (sample @ directions)).Q
    share = np.square(sample @ directions).sum() / max(np.square(sample).sum(), TINY)
    return directions.T, centre, float(share)


def _distances(queries: Float32Array, table: Float32Array, rows: Int64Array) -> Float32Array:
    """Squared distances of (n, d) queries to (n, m) rows of a table; infinite to a row -1."""
    queries, values = np.ascontiguousarray(queries), np.empty(rows.shape, np.float32)
    pointers = [faiss.swig_ptr(it) for it in (values, queries, table, rows)]
    faiss.fvec_L2sqr_by_idx(*pointers, table.shape[1], *rows.shape)
    return values


def _pairs(queries: Float32Array, of: Int64Array, table: Float32Array, rows: Int64Array) -> Float32Array:
    """Squared distances of query `of[i]` to row `rows[i]` of a table."""
    queries, values = np.ascontiguousarray(queries), np.empty(len(rows), np.float32)
    pointers = [faiss.swig_ptr(it) for it in (queries, of, table, rows, values)]
    faiss.pairwise_indexed_L2sqr(table.shape[1], len(rows), *pointers)
    return values
