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
# What a core does: numbers a nanosecond, and nanoseconds for a neighbour that is compared in float64 and kept, with
# those that it drives out. They only decide what is divided.
_SCANNED, _MULTIPLIED, _KEPT = 5, 40, 200
_WORTH_A_THREAD = 75_000  # nanoseconds


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

        return divide(fill, self._metric, len(queries), len(self._rows), k, nanoseconds=self._rows.size // _SCANNED)


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

        return divide(fill, self._metric, len(queries), len(self._rows), k, nanoseconds=self._rows.size // _MULTIPLIED)


def centre_of(rows: Float32Array) -> Float32Array:
    """(d,) about the mean of rows, amid which products are small, and so is their rounding."""
    some = rows[:: max(1, len(rows) // _CENTRE)]
    return some.mean(axis=0, dtype=np.float64).astype(np.float32) if len(some) else np.zeros(rows.shape[1], np.float32)


def divide(fill: Fill, metric: Metric, queries: int, rows: int, k: int, *, nanoseconds: int) -> Neighbours:
    """Divides a search among threads: by queries where each of these keeps a thread busy, by rows otherwise.

    Args:
        fill: searches with some queries among some rows and fills (n, k) values and numbers.
        metric: what makes rows near.
        queries: how many.
        rows: how many.
        k: how many neighbours are wanted.
        nanoseconds: about what a query takes, but for what it keeps.
    """
    values, numbers = np.empty((queries, k), np.float32), np.empty((queries, k), np.int64)
    step = max(_PANEL, _HELD // k // _PANEL * _PANEL)
    for start in range(0, queries, step):
        here = slice(start, min(start + step, queries))
        asked = here.stop - here.start
        worth = asked * (nanoseconds + _KEPT * k) // _WORTH_A_THREAD
        panel = _PANEL if nanoseconds > _KEPT * k else 1
        if worth < 2:
            fill(here, slice(0, rows), values[here], numbers[here])
        elif asked >= panel * faiss.omp_get_max_threads():

            def ask(part: slice, start: int = start, end: int = here.stop, panel: int = panel) -> None:
                some = slice(start + panel * part.start, min(start + panel * part.stop, end))
                fill(some, slice(0, rows), values[some], numbers[some])

            panels = -(-asked // panel)
            spread(ask, panels, max(1, panels // worth))
        else:

            def look(part: slice, here: slice = here) -> tuple[Float32Array, Int64Array]:
                size = here.stop - here.start, k
                found = np.empty(size, np.float32), np.empty(size, np.int64)
                fill(here, part, *found)
                return found

            found = spread(look, rows, max(1, rows // worth))
            each = [np.concatenate(it, axis=1) for it in zip(*found, strict=True)]
            values[here], numbers[here] = nearest(metric, each[0], each[1], k)
    return Neighbours(numbers, values)
