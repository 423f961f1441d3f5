"""The engine that searches a k-d tree, for L2 and COSINE."""

import faiss
import numpy as np

from knn_container.batch import Float32Array, Float64Array, Int64Array
from knn_container.metric import Metric, unit_rows
from knn_container.search.brute_force import Products
from knn_container.search.engines import KD_TREE, LARGEST
from knn_container.search.neighbours import Share, own_memory

_EPSILON = float(np.finfo(np.float64).eps)
_STEPS = 256  # more additions than lead to a leaf of any tree
_BLOCK = 1 << 14  # rows
_SAMPLE = 1 << 12  # rows that show how columns spread
_STRONG, _BITS = 3, 4  # columns by which queries are ordered, and the binary digits of each
_MANY = 32  # queries that are worth ordering
_LEAF = 16  # points
_TRIAL = 64  # queries by which a tree's speed is expected, and rows at least
_TRIAL_ROWS, _TRIAL_NUMBERS = 1 << 13, 1 << 19  # of the larger of two small trees, at most
# Seconds that a query takes, with each leaf that it looks into, and with each column of that: as seen on trees of
# 200,000 rows, from 4 to 54 columns.
_QUERY, _LEAVES, _COLUMNS = 5e-6, 3e-7, 1.5e-8


class KDTree:
    """SciPy's k-d tree in float64, which leaves out whole regions of rows; for L2, and for COSINE by unit rows.

    It pays on tables whose rows lie in few directions, whatever their number of columns. Its values are squared
    distances, under COSINE cosines.

    What is near in space is near in memory: rows lie in the order of the leaves of a first tree, and many queries are
    asked along a Z-order curve (Morton, 1966). On 200,000 rows of 54 columns, 10,000 queries took 68 ms in place of
    284, and one 0.048 ms in place of 0.068.

    Args:
        rows: (n, d).
        metric: L2 or COSINE.
        share: gives the memory of the rows in float64.
    """

    name = KD_TREE
    spare = 2

    def __init__(self, rows: Float32Array, metric: Metric, share: Share = own_memory) -> None:
        from scipy.spatial import cKDTree  # noqa: PLC0415 (20 MB that not every process needs)

        count, columns = rows.shape

        def fill(shared: Float64Array) -> None:
            points, order = shared[:-count].reshape(rows.shape), shared[-count:, 0]
            order[:] = np.arange(count)
            self._put(points, rows, order)
            order[:] = cKDTree(points, copy_data=False).indices
            self._put(points, rows, order)

        self._metric = metric
        self._has_zeros = metric is Metric.COSINE and not rows.any(axis=1).all()
        shared = share((count * (columns + 1), 1), fill)
        points = shared[:-count].reshape(rows.shape)
        self._order = shared[-count:, 0]
        self._tree = cKDTree(points, copy_data=False)
        sample = points[:: max(1, count // _SAMPLE)]
        self._strong = np.argsort(-sample.std(axis=0), kind="stable")[:_STRONG]
        self._borders = np.quantile(sample[:, self._strong], np.linspace(0, 1, (1 << _BITS) + 1)[1:-1], axis=0)

    def _put(self, points: Float64Array, rows: Float32Array, order: Float64Array) -> None:
        for start in range(0, len(rows), _BLOCK):
            block = points[start : start + _BLOCK]
            block[:] = rows[order[start : start + _BLOCK].astype(np.int64)]
            if self._metric is Metric.COSINE:
                _scale(block)

    @staticmethod
    def expect(rows: Float32Array, metric: Metric, k: int) -> tuple[float, float]:
        """How long a query will about take, without SciPy, which takes 20 MB of memory.

        Two trees of some of the rows tell how many leaves a query looks into, and how their number grows.

        Args:
            rows: (n, d), n > 0.
            metric: L2 or COSINE.
            k: neighbours.

        Returns:
            Seconds, and the power of the number of rows with which the leaves grow; 1 where none is left out.
        """
        count = min(_TRIAL_ROWS, max(_TRIAL, _TRIAL_NUMBERS // rows.shape[1]))
        points = np.ascontiguousarray(rows[:: max(1, len(rows) // count)][:count])
        queries = np.ascontiguousarray(rows[1 % len(rows) :: max(1, len(rows) // _TRIAL)][:_TRIAL])
        if metric is Metric.COSINE:
            points, queries = unit_rows(points), unit_rows(queries)
        few, many = _leaves_met(points[::4].copy(), queries, k), _leaves_met(points, queries, k)
        growth = max(0.0, float(np.log(many / few) / np.log(4)))
        leaves = many * (len(rows) / len(points)) ** growth
        return _QUERY + leaves * (_LEAVES + _COLUMNS * rows.shape[1]), growth

    @staticmethod
    def bytes_needed(rows: int, columns: int) -> int:
        """What a tree takes: the rows in float64, their order, and its nodes."""
        return rows * (8 * columns + 32)

    def propose(self, queries: Float32Array, wanted: int) -> tuple[Float64Array, Int64Array]:
        """As `Proposer.propose`."""
        points = queries.astype(np.float64)
        if self._metric is Metric.COSINE:
            _scale(points)
        along = self._curve(points) if len(points) >= _MANY else slice(None)
        workers = min(faiss.omp_get_max_threads(), max(1, len(points) // 4))
        distances, places = self._tree.query(points[along], wanted, workers=workers)
        shape = len(points), wanted
        last, candidates = np.empty(len(points)), np.empty(shape, np.int64)
        last[along] = np.square(distances.reshape(shape)[:, -1])
        candidates[along] = self._order[places.reshape(shape)]
        if self._metric is Metric.COSINE:
            last = 1 - last / 2
        return last, candidates

    def _curve(self, points: Float64Array) -> Int64Array:
        """Orders points along a Z-order curve through the columns that spread most."""
        keys = np.zeros(len(points), np.int64)
        for number, column in enumerate(self._strong):
            cells = np.searchsorted(self._borders[:, number], points[:, column])
            for bit in range(_BITS):
                keys |= (cells >> bit & 1) << (bit * len(self._strong) + number)
        return np.argsort(keys, kind="stable")

    def limit(
        self,
        queries: Float32Array,
        worst: Float32Array,  # noqa: ARG002
        last: Float64Array,
    ) -> Float32Array:
        """As `Proposer.limit`: on its way down the tree a region's distance is summed up in float64."""
        relative = 4 * (queries.shape[1] + _STEPS) * _EPSILON
        if self._metric is Metric.COSINE:
            limit = last + relative
            if self._has_zeros:  # as points they are nearer than their cosine, which is 0
                limit = np.maximum(limit, 0)
        else:
            limit = np.minimum(last * (1 - relative), LARGEST)  # as which all larger distances count
        return np.asarray(limit, np.float32)


def _leaves_met(points: Float32Array, queries: Float32Array, k: int) -> float:
    """How many leaves of a tree are nearer to a query than its k-th neighbour."""
    found = Products(points, Metric.L2).search(queries, min(k, len(points)))
    low, high = _leaves(points)
    met = 0.0
    for query, farthest in zip(queries, found.values[:, -1], strict=True):
        apart = np.maximum(low - query, 0) + np.maximum(query - high, 0)
        met += np.count_nonzero(np.square(apart).sum(axis=1) <= farthest)
    return max(1.0, met / len(queries))


def _leaves(points: Float32Array) -> tuple[Float32Array, Float32Array]:
    """The (m, d) lower and upper borders of the leaves of a tree that is split as SciPy splits it."""
    leaves = []
    trees = [(points, points.min(axis=0), points.max(axis=0))]
    while trees:
        points, low, high = trees.pop()
        if len(points) <= _LEAF:
            leaves.append((low, high))
            continue
        half, column = len(points) // 2, int(np.argmax(np.ptp(points, axis=0)))
        points = points[np.argpartition(points[:, column], half)]
        border_low, border_high = low.copy(), high.copy()
        border_low[column] = border_high[column] = points[half, column]
        trees += [(points[:half], low, border_high), (points[half:], border_low, high)]
    return np.array([low for low, _ in leaves]), np.array([high for _, high in leaves])


def _scale(points: Float64Array) -> None:
    """Scales points to length 1 in place; those without a direction stay as they are."""
    lengths = np.sqrt(np.square(points).sum(axis=1, keepdims=True))
    np.divide(points, lengths, out=points, where=lengths > 0)
