"""The engines that compare each query with each row, in the compiled code of `kernels`."""

import faiss
import numpy as np

from knn_container import kernels
from knn_container.batch import Float32Array
from knn_container.metric import Metric
from knn_container.search.engines import PRODUCTS, SCAN
from knn_container.search.neighbours import Neighbours

_CENTRE, _CENTRE_NUMBERS = 1 << 10, 1 << 20  # rows, and their numbers, whose median is taken for that of all
_SMALL = 1 << 18  # numbers of a table that is held twice, so that it need not be packed again and again


class _BruteForce:
    """What both engines have in common.

    Args:
        rows: (n, d).
        metric: what makes rows near.
        centre: as `kernels.search` takes it, like what follows.
        packed: the rows once more.
    """

    def __init__(
        self,
        rows: Float32Array,
        metric: Metric,
        centre: Float32Array | None = None,
        packed: "kernels.Packed | None" = None,
    ) -> None:
        self._rows = rows
        self._how = metric.number, centre, packed

    def search(self, queries: Float32Array, k: int) -> Neighbours:
        """As `Engine.search`."""
        values, numbers = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        kernels.search(*self._how, queries, self._rows, values, numbers, faiss.omp_get_max_threads())
        return Neighbours(numbers, values)


class Scan(_BruteForce):
    """Row by row, in float32 and then in float64: precise wherever rows lie, and best for a few queries.

    Args:
        rows: (n, d).
        metric: what makes rows near.
    """

    name = SCAN


class Products(_BruteForce):
    """By products of matrices, tiles of which stay in a core's registers while they are compared.

    Args:
        rows: (n, d).
        metric: what makes rows near.
    """

    name = PRODUCTS

    def __init__(self, rows: Float32Array, metric: Metric) -> None:
        centre = centre_of(rows)
        packed = kernels.pack(metric.number, centre, rows) if 0 < rows.size <= _SMALL else None
        super().__init__(rows, metric, centre, packed)


def centre_of(rows: Float32Array) -> Float32Array:
    """(d,) the median of each column of some rows, amid which products are small, and so is their rounding.

    A few numbers far off, such as those that stand for missing ones, do not move it.
    """
    if not len(rows):
        return np.zeros(rows.shape[1], np.float32)
    most = max(1, min(_CENTRE, _CENTRE_NUMBERS // rows.shape[1]))
    some = rows[:: -(-len(rows) // most)]
    return np.median(some.astype(np.float64), axis=0).astype(np.float32)
