"""What proposes candidates for an exact answer, each with a bound on what it may have left out.

A proposal holds the true neighbours for certain if the k-th of its candidates, computed exactly, is nearer than any row
outside can be. The bounds on rounding are those of Higham, "Accuracy and Stability of Numerical Algorithms", section
3.1, with twice the unit roundoff.
"""

from dataclasses import dataclass
from typing import Protocol

import faiss
import numpy as np

from knn_container.batch import Float32Array, Float64Array, Int64Array
from knn_container.metric import Metric, row_lengths, unit_rows
from knn_container.search.neighbours import SPARE, direct_scan

SCAN, PRODUCTS, KD_TREE = "scan", "products", "kd_tree"
ENGINES = (SCAN, PRODUCTS, KD_TREE)
_EPSILON = float(np.finfo(np.float32).eps)
_WIDE_EPSILON = float(np.finfo(np.float64).eps)
_LARGEST = float(np.finfo(np.float32).max)
_STEPS = 256  # more additions than lead to a leaf of any tree


class Engine(Protocol):
    """Proposes candidates; safe to use from several threads at once."""

    @property
    def name(self) -> str:
        """One of `ENGINES`."""

    @property
    def spare(self) -> int:
        """How many candidates beyond k are worth asking for."""

    def propose(self, queries: Float32Array, wanted: int) -> tuple[Float64Array, Int64Array]:
        """Gives the nearest rows as the engine computes it.

        Args:
            queries: (n, d) finite.
            wanted: how many, fewer than there are rows.

        Returns:
            (n,) the engine's value of the last candidate, and (n, wanted) row numbers, -1 for none.
        """

    def limit(self, queries: Float32Array, worst: Float32Array, last: Float64Array) -> Float32Array:
        """The nearest value that a row outside the candidates can have, rounded as `Metric.between` rounds.

        Args:
            queries: (n, d).
            worst: (n,) exact value of the k-th neighbour found.
            last: (n,) as `propose` gave it.
        """


@dataclass(frozen=True)
class Flat:
    """FAISS's brute force in float32, row by row or by matrix products.

    Attributes:
        index: of the rows, under COSINE of unit rows.
        metric: what makes rows near.
        longest: the largest length of a row.
        products: whether FAISS multiplies matrices.
    """

    index: faiss.IndexFlat
    metric: Metric
    longest: float
    products: bool
    spare: int = SPARE

    @property
    def name(self) -> str:
        """One of `ENGINES`."""
        return PRODUCTS if self.products else SCAN

    def propose(self, queries: Float32Array, wanted: int) -> tuple[Float64Array, Int64Array]:
        """As `Engine.propose`."""
        asked = unit_rows(queries) if self.metric is Metric.COSINE else queries
        values, candidates = self.index.search(asked, wanted, params=None if self.products else direct_scan())
        return values[:, -1].astype(np.float64), candidates

    def limit(self, queries: Float32Array, worst: Float32Array, last: Float64Array) -> Float32Array:
        """As `Engine.limit`."""
        relative = (self.index.d + 8) * _EPSILON
        smallest = self.index.d * float(np.finfo(np.float32).tiny)  # FAISS may flush denormals to zero
        with np.errstate(over="ignore"):
            if self.metric is Metric.COSINE:
                limit = last + relative * 2
            elif self.metric is Metric.INNER_PRODUCT:
                limit = last + relative * row_lengths(queries) * self.longest + smallest
            elif self.products:
                # |x|^2 + |q|^2 - 2xq is off by a share of (|x| + |q|)^2; by the triangle inequality no row with
                # |x| > |q| + the k-th distance matters.
                reach = 2 * row_lengths(queries) + np.sqrt(worst, dtype=np.float64)
                limit = last - relative * np.square(reach) - smallest
            else:
                # A sum of squares: each term is off by a share of itself.
                limit = last / (1 + relative) - smallest
            return np.asarray(limit, np.float32)


class KDTree:
    """SciPy's k-d tree in float64, which leaves out whole regions of rows; for L2, and for COSINE by unit rows.

    It pays on tables whose rows lie in few directions, whatever their number of columns. Its values are squared
    distances, under COSINE cosines.

    Args:
        rows: (n, d).
        metric: L2 or COSINE.
    """

    name = KD_TREE
    spare = 8

    def __init__(self, rows: Float32Array, metric: Metric) -> None:
        from scipy.spatial import cKDTree  # noqa: PLC0415 (28 MB that not every process needs)

        self._metric = metric
        self._has_zeros = False
        points = rows.astype(np.float64)
        if metric is Metric.COSINE:
            self._has_zeros = _scale(points)
        self._tree = cKDTree(points, copy_data=False)

    @staticmethod
    def bytes_needed(rows: int, columns: int) -> int:
        """What a tree takes: the rows in float64, and its nodes."""
        return rows * (8 * columns + 24)

    def propose(self, queries: Float32Array, wanted: int) -> tuple[Float64Array, Int64Array]:
        """As `Engine.propose`."""
        points = queries.astype(np.float64)
        if self._metric is Metric.COSINE:
            _scale(points)
        workers = min(faiss.omp_get_max_threads(), max(1, len(points) // 4))
        distances, candidates = self._tree.query(points, wanted, workers=workers)
        last = np.square(distances.reshape(len(points), wanted)[:, -1])
        if self._metric is Metric.COSINE:
            last = 1 - last / 2
        return last, candidates.reshape(len(points), wanted).astype(np.int64)

    def limit(
        self,
        queries: Float32Array,
        worst: Float32Array,  # noqa: ARG002
        last: Float64Array,
    ) -> Float32Array:
        """As `Engine.limit`: on its way down the tree a region's distance is summed up in float64."""
        relative = 4 * (queries.shape[1] + _STEPS) * _WIDE_EPSILON
        if self._metric is Metric.COSINE:
            limit = last + relative
            if self._has_zeros:  # as points they are nearer than their cosine, which is 0
                limit = np.maximum(limit, 0)
        else:
            limit = np.minimum(last * (1 - relative), _LARGEST)  # as which all larger distances count
        return np.asarray(limit, np.float32)


def _scale(points: Float64Array) -> bool:
    """Scales points to length 1 in place, and says whether some have no direction."""
    for start in range(0, len(points), 1 << 14):
        block = points[start : start + (1 << 14)]
        lengths = np.sqrt(np.square(block).sum(axis=1, keepdims=True))
        np.divide(block, lengths, out=block, where=lengths > 0)
    return not points.any(axis=1).all()
