"""The engines that compare each query with each row, in the compiled code of `kernels`."""

from collections.abc import Callable

import faiss
import numpy as np

from knn_container import kernels
from knn_container.batch import Float32Array, Int64Array
from knn_container.metric import Metric, nearest
from knn_container.search.engines import PRODUCTS, SCAN
from knn_container.search.neighbours import Neighbours
from knn_container.search.threads import spread

Fill = Callable[[slice, slice, Float32Array, Int64Array], None]

_CENTRE = 1 << 12  # rows whose mean is taken for that of all
_HELD = 1 << 22  # neighbours that are held at a time
_PANEL = 32  # queries that one pass over the rows takes
_WORTH_A_THREAD = 1 << 21  # products of numbers
_KEPT = 1 << 9  # products that take as long as to compare a neighbour in float64 and to keep it


class Scan:
    """Row by row, in float32 and then in float64: precise wherever rows lie, and best for a few queries.

    Args:
        rows: (n, d).
        metric: what makes rows near.
    """

    name = SCAN

    def __init__(self, rows: Float32Array, metric: Metric) -> None:
        self._rows = rows
        self._metric = metric

    def search(self, queries: Float32Array, k: int) -> Neighbours:
        """As `Engine.search`."""

        def fill(asked: slice, rows: slice, values: Float32Array, numbers: Int64Array) -> None:
            kernels.search(self._metric.number, None, queries[asked], self._rows[rows], values, numbers, rows.start)

        return divide(fill, self._metric, len(queries), self._rows.shape, k)


class Products:
    """By products of matrices, tiles of which stay in a core's registers while they are compared.

    Args:
        rows: (n, d).
        metric: what makes rows near.
    """

    name = PRODUCTS

    def __init__(self, rows: Float32Array, metric: Metric) -> None:
        self._rows = rows
        self._metric = metric
        self._centre = centre_of(rows)

    def search(self, queries: Float32Array, k: int) -> Neighbours:
        """As `Engine.search`."""

        def fill(asked: slice, rows: slice, values: Float32Array, numbers: Int64Array) -> None:
            some, table = queries[asked], self._rows[rows]
            kernels.search(self._metric.number, self._centre, some, table, values, numbers, rows.start)

        return divide(fill, self._metric, len(queries), self._rows.shape, k)


def centre_of(rows: Float32Array) -> Float32Array:
    """(d,) about the mean of rows, amid which products are small, and so is their rounding."""
    some = rows[:: max(1, len(rows) // _CENTRE)]
    return some.mean(axis=0, dtype=np.float64).astype(np.float32) if len(some) else np.zeros(rows.shape[1], np.float32)


def divide(fill: Fill, metric: Metric, queries: int, shape: tuple[int, ...], k: int) -> Neighbours:
    """Divides a search among threads: by queries where these are many, by rows otherwise.

    Args:
        fill: searches with some queries among some rows and fills (n, k) values and numbers.
        metric: what makes rows near.
        queries: how many.
        shape: of the rows.
        k: how many neighbours are wanted.
    """
    count, columns = shape
    values, numbers = np.empty((queries, k), np.float32), np.empty((queries, k), np.int64)
    step = max(_PANEL, _HELD // k // _PANEL * _PANEL)
    for start in range(0, queries, step):
        here = slice(start, min(start + step, queries))
        asked = here.stop - here.start
        work = asked * (count * columns + _KEPT * k)
        if work < 2 * _WORTH_A_THREAD:
            fill(here, slice(0, count), values[here], numbers[here])
        elif asked >= _PANEL * faiss.omp_get_max_threads():

            def ask(part: slice, start: int = start, end: int = here.stop) -> None:
                some = slice(start + _PANEL * part.start, min(start + _PANEL * part.stop, end))
                fill(some, slice(0, count), values[some], numbers[some])

            spread(ask, -(-asked // _PANEL))
        else:

            def look(part: slice, here: slice = here) -> tuple[Float32Array, Int64Array]:
                size = here.stop - here.start, k
                found = np.empty(size, np.float32), np.empty(size, np.int64)
                fill(here, part, *found)
                return found

            found = spread(look, count, max(1, count * _WORTH_A_THREAD // work))
            if len(found) == 1:
                values[here], numbers[here] = found[0]
            else:
                each = [np.concatenate(it, axis=1) for it in zip(*found, strict=True)]
                values[here], numbers[here] = nearest(metric, each[0], each[1], k)
    return Neighbours(numbers, values)
