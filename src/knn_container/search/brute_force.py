"""The engines that compare each query with each row, in the compiled code of `kernels`."""

from collections.abc import Callable
from itertools import pairwise
from math import log

import faiss
import numpy as np

from knn_container import kernels
from knn_container.batch import Float32Array, Int64Array
from knn_container.metric import Metric, nearest
from knn_container.search.engines import PRODUCTS, SCAN
from knn_container.search.neighbours import Neighbours
from knn_container.search.threads import spread

Fill = Callable[[slice, slice, Float32Array, Int64Array], None]

_CENTRE, _CENTRE_NUMBERS = 1 << 10, 1 << 20  # rows, and their numbers, whose median is taken for that of all
_HELD = 1 << 22  # neighbours that are held at a time
_PANEL = 32  # queries that one pass over the rows takes
# What a core does: numbers a nanosecond, and nanoseconds for a row that is compared in float64 and kept. They only
# decide what is divided.
_SCANNED, _MULTIPLIED, _KEPT = 5, 40, 45
_WORTH_A_THREAD = 150_000  # nanoseconds: it takes about half of that to wake one


class _BruteForce:
    """What both engines have in common.

    Args:
        rows: (n, d).
        metric: what makes rows near.
        centre: as `kernels.search` takes it.
        speed: numbers of the rows that a query is compared with in a nanosecond.
    """

    def __init__(self, rows: Float32Array, metric: Metric, centre: Float32Array | None, speed: int) -> None:
        self._rows = rows
        self._metric = metric
        self._number = metric.number
        self._centre = centre
        self._nanoseconds = rows.size // speed

    def search(self, queries: Float32Array, k: int) -> Neighbours:
        """As `Engine.search`."""

        def fill(asked: slice, rows: slice, values: Float32Array, numbers: Int64Array) -> None:
            some, table = queries[asked], self._rows[rows]
            kernels.search(self._number, self._centre, some, table, values, numbers, rows.start)

        return divide(fill, self._metric, len(queries), len(self._rows), k, nanoseconds=self._nanoseconds)


class Scan(_BruteForce):
    """Row by row, in float32 and then in float64: precise wherever rows lie, and best for a few queries.

    Args:
        rows: (n, d).
        metric: what makes rows near.
    """

    name = SCAN

    def __init__(self, rows: Float32Array, metric: Metric) -> None:
        super().__init__(rows, metric, None, _SCANNED)


class Products(_BruteForce):
    """By products of matrices, tiles of which stay in a core's registers while they are compared.

    Args:
        rows: (n, d).
        metric: what makes rows near.
    """

    name = PRODUCTS

    def __init__(self, rows: Float32Array, metric: Metric) -> None:
        super().__init__(rows, metric, centre_of(rows), _MULTIPLIED)


def centre_of(rows: Float32Array) -> Float32Array:
    """(d,) the median of each column of some rows, amid which products are small, and so is their rounding.

    A few numbers far off, such as those that stand for missing ones, do not move it.
    """
    if not len(rows):
        return np.zeros(rows.shape[1], np.float32)
    most = max(1, min(_CENTRE, _CENTRE_NUMBERS // rows.shape[1]))
    some = rows[:: -(-len(rows) // most)]
    return np.median(some.astype(np.float64), axis=0).astype(np.float32)


def divide(fill: Fill, metric: Metric, queries: int, rows: int, k: int, *, nanoseconds: int) -> Neighbours:
    """Divides a search among threads, by queries and by rows.

    Args:
        fill: searches with some queries among some rows and fills (n, k) values and numbers.
        metric: what makes rows near.
        queries: how many.
        rows: how many.
        k: how many neighbours are wanted.
        nanoseconds: about what a query takes, but for what it keeps.
    """
    across, down = _parts(queries, rows, k, nanoseconds)
    values, numbers = np.empty((queries, k), np.float32), np.empty((queries, k), np.int64)
    step = max(_PANEL, _HELD // (k * down) // _PANEL * _PANEL)
    if across * down == 1 and queries <= step:
        fill(slice(0, queries), slice(0, rows), values, numbers)
        return Neighbours(numbers, values)
    for start in range(0, queries, step):
        asked = min(step, queries - start)
        borders = [start + asked * number // across for number in range(across + 1)]
        if asked >= _PANEL * across:
            borders = [start + (border - start) // _PANEL * _PANEL for border in borders[:-1]] + borders[-1:]
        _fill_parts(fill, metric, values, numbers, (borders, [rows * number // down for number in range(down + 1)]))
    return Neighbours(numbers, values)


def _parts(queries: int, rows: int, k: int, nanoseconds: int) -> tuple[int, int]:
    """Into how many parts queries and rows are divided.

    Rows, since all queries pass over a part of them while it is in the caches; but each part keeps k rows of its own.
    """
    # Of rows in any order, so many are among the k nearest of those before them.
    kept = int(_KEPT * k * (1 + log(max(1, rows / k))))
    worth = queries * (nanoseconds + kept) // _WORTH_A_THREAD
    if worth < 2:
        return 1, 1
    threads = min(faiss.omp_get_max_threads(), worth)
    across = min(threads, max(1, queries // _PANEL))
    down = min(-(-threads // across), max(1, nanoseconds // (2 * kept)))
    return max(across, min(queries, threads // down)), down


def _fill_parts(
    fill: Fill, metric: Metric, values: Float32Array, numbers: Int64Array, borders: tuple[list[int], list[int]]
) -> None:
    """Fills values and numbers of the queries between the first borders, from the rows between the second."""
    across, down = ([slice(*pair) for pair in pairwise(places)] for places in borders)
    tasks = [(asked, part) for asked in across for part in down]

    def work(some: slice) -> list[tuple[Float32Array, Int64Array]]:
        found = []
        for asked, part in tasks[some]:
            if len(down) == 1:
                one = values[asked], numbers[asked]
            else:
                size = asked.stop - asked.start, values.shape[1]
                one = np.empty(size, np.float32), np.empty(size, np.int64)
            fill(asked, part, *one)
            found.append(one)
        return found

    found = [one for some in spread(work, len(tasks)) for one in some]
    if len(down) > 1:
        for place, asked in enumerate(across):
            each = zip(*found[place * len(down) : (place + 1) * len(down)], strict=True)
            beside = [np.concatenate(it, axis=1) for it in each]
            values[asked], numbers[asked] = nearest(metric, beside[0], beside[1], values.shape[1])
