"""The engine that searches a k-d tree, for L2 and COSINE."""

import faiss
import numpy as np

from knn_container.batch import Float32Array, Float64Array, Int64Array
from knn_container.metric import Metric
from knn_container.search.engines import KD_TREE, LARGEST
from knn_container.search.neighbours import Share, own_memory

_EPSILON = float(np.finfo(np.float64).eps)
_STEPS = 256  # more additions than lead to a leaf of any tree
_BLOCK = 1 << 14  # rows


class KDTree:
    """SciPy's k-d tree in float64, which leaves out whole regions of rows; for L2, and for COSINE by unit rows.

    It pays on tables whose rows lie in few directions, whatever their number of columns. Its values are squared
    distances, under COSINE cosines.

    Args:
        rows: (n, d).
        metric: L2 or COSINE.
        share: gives the memory of the rows in float64.
    """

    name = KD_TREE
    spare = 8

    def __init__(self, rows: Float32Array, metric: Metric, share: Share = own_memory) -> None:
        from scipy.spatial import cKDTree  # noqa: PLC0415 (28 MB that not every process needs)

        def fill(points: Float64Array) -> None:
            for start in range(0, len(rows), _BLOCK):
                block = points[start : start + _BLOCK]
                block[:] = rows[start : start + _BLOCK]
                if metric is Metric.COSINE:
                    _scale(block)

        self._metric = metric
        self._has_zeros = metric is Metric.COSINE and not rows.any(axis=1).all()
        self._tree = cKDTree(share((len(rows), rows.shape[1]), fill), copy_data=False)

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
        return last, candidates.reshape(len(points), wanted).astype(np.int64, copy=False)

    def limit(
        self,
        queries: Float32Array,
        worst: Float32Array,  # noqa: ARG002
        last: Float64Array,
    ) -> Float32Array:
        """As `Engine.limit`: on its way down the tree a region's distance is summed up in float64."""
        relative = 4 * (queries.shape[1] + _STEPS) * _EPSILON
        if self._metric is Metric.COSINE:
            limit = last + relative
            if self._has_zeros:  # as points they are nearer than their cosine, which is 0
                limit = np.maximum(limit, 0)
        else:
            limit = np.minimum(last * (1 - relative), LARGEST)  # as which all larger distances count
        return np.asarray(limit, np.float32)


def _scale(points: Float64Array) -> None:
    """Scales points to length 1 in place; those without a direction stay as they are."""
    lengths = np.sqrt(np.square(points).sum(axis=1, keepdims=True))
    np.divide(points, lengths, out=points, where=lengths > 0)
