"""The engine that looks at few directions first, for L2.

With orthonormal directions P and r(x) the length of what they leave of x, |Px - Pq|² + (r(x) - r(q))² is never more
than |x - q|²: a bound that takes a few columns in place of all. It pays on long rows with few strong directions, such
as pictures. Directions are those of the largest variance, found in a sample by subspace iteration (Halko, Martinsson
and Tropp, 2011, algorithm 4.4).
"""

import faiss
import numpy as np

from knn_container import kernels
from knn_container.batch import Float32Array, Float64Array
from knn_container.metric import Metric
from knn_container.search.brute_force import centre_of
from knn_container.search.engines import LARGEST, PROJECTIONS, TINY
from knn_container.search.neighbours import Neighbours
from knn_container.search.threads import multiply_alone, spread

_SAMPLE = 1 << 12  # rows in which directions are sought
_ITERATIONS = 3
_STRONG = 0.7  # share of the variance from which directions are strong
_MANY = 8  # queries from which matrix products are faster
_BLOCK = 1 << 20  # numbers that one step projects


class Projections:
    """Leaves out rows by their distance in a few directions.

    Args:
        rows: (n, d), n > 0.
    """

    name = PROJECTIONS

    def __init__(self, rows: Float32Array) -> None:
        self._rows = rows
        self._directions, self._mean, _ = _strongest(rows)
        projected = spread(lambda part: self._project(rows[part]), len(rows), _BLOCK // rows.shape[1])
        self._projected = np.concatenate(projected)
        self._centre = centre_of(self._projected)

    @staticmethod
    def may_pay(rows: Float32Array) -> bool:
        """Whether rows have few strong directions."""
        return rows.shape[1] > 2 * _directions(rows.shape[1]) and _strongest(rows)[2] > _STRONG

    @staticmethod
    def bytes_needed(rows: int, columns: int) -> int:
        """What the projected rows take."""
        return 4 * rows * (_directions(columns) + 1)

    def _project(self, rows: Float32Array) -> Float32Array:
        projected = np.empty((len(rows), len(self._directions) + 1), np.float32)
        step = max(1, _BLOCK // rows.shape[1])
        for start in range(0, len(rows), step):
            apart = rows[start : start + step] - self._mean
            strong = apart @ self._directions.T
            rest = np.square(apart).sum(axis=1) - np.square(strong).sum(axis=1)
            # Clipped, nothing becomes infinite, and no distance larger.
            projected[start : start + step, :-1] = strong.clip(-LARGEST, LARGEST)
            projected[start : start + step, -1] = np.sqrt(rest.clip(0)).clip(max=LARGEST)
        return projected

    def search(self, queries: Float32Array, k: int) -> Neighbours:
        """As `Engine.search`."""
        projected = self._project(queries)
        centre = self._centre if len(queries) >= _MANY else None
        values, numbers = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        threads = faiss.omp_get_max_threads()
        screened = projected, self._projected
        kernels.search(Metric.L2.number, centre, None, queries, self._rows, values, numbers, threads, *screened)
        return Neighbours(numbers, values)


def _directions(columns: int) -> int:
    """How many directions are looked at: with the rest, a multiple of 16 columns."""
    return min(columns, 127 if columns >= 512 else 31 if columns >= 128 else 15)


def _strongest(rows: Float32Array) -> tuple[Float64Array, Float64Array, float]:
    """The (p, d) strongest directions of (n, d) rows, their (d,) mean, and the directions' share of the variance."""
    multiply_alone()
    sample = rows[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE].astype(np.float64)
    centre = sample.mean(axis=0)
    sample -= centre
    directions = np.random.default_rng(0).normal(size=(rows.shape[1], _directions(rows.shape[1])))
    for _ in range(_ITERATIONS):
        directions = np.linalg.qr(sample.T @ (sample @ directions)).Q
    share = np.square(sample @ directions).sum() / max(np.square(sample).sum(), TINY)
    return directions.T, centre, float(share)
