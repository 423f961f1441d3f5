"""The smallest values of many rows and queries, by matrix products.

NumPy multiplies blocks of rows and queries that fit a core's cache and keeps the minimum of each group of 16 rows: of
all values, the n smallest lie in the n groups whose minima are smallest.
"""

import numpy as np

from knn_container.batch import Float32Array, Float64Array, Int64Array
from knn_container.search.engines import EPSILON, TINY
from knn_container.search.threads import multiply_alone, spread

GROUP = 16  # rows
_WIDE = 64  # times as many numbers as are wanted, from which groups pay
_VALUES = 1 << 18  # that one step computes: 1 MiB
_QUERIES, _ROWS, _NUMBERS = 128, 1 << 14, 1 << 20  # that it computes them for, and numbers of the rows, at most
_FEW = 8  # queries, fewer than which do not pay for shifting rows
_CENTRE = 1 << 12  # rows whose mean is taken for that of all


def smallest(values: Float32Array, count: int) -> Int64Array:
    """The places of the smallest numbers of each row.

    Args:
        values: (n, m).
        count: how many of each row, at most m.

    Returns:
        (n, count) places in no order, but for the last, which is that of the largest of them.
    """
    rows, columns = values.shape
    groups = columns // GROUP
    if columns <= _WIDE * count:
        return np.argpartition(values, count - 1, axis=1)[:, :count]
    # Group j has every `groups`-th number from j on; what is left over is looked at in any case.
    minima = np.minimum.reduce(values[:, : groups * GROUP].reshape(rows, GROUP, groups), axis=1)
    members = smallest(minima, count)[:, :, np.newaxis] + np.arange(GROUP) * groups
    rest = np.broadcast_to(np.arange(groups * GROUP, columns), (rows, columns - groups * GROUP))
    places = np.concatenate([members.reshape(rows, -1), rest], axis=1)
    chosen = np.argpartition(np.take_along_axis(values, places, axis=1), count - 1, axis=1)[:, :count]
    return np.take_along_axis(places, chosen, axis=1)


class Values:
    """Computes values in float32 of which the smallest are of the nearest rows.

    Of squared distances, the value of row x for query q is |x - c|² - 2 (x - c)(q - c), which orders rows as
    |x - q|² does: with c amid the rows, products are small, and so is their rounding. Of similarities it is -xq s,
    with a scale s for each row.

    Args:
        rows: (n, d).
        distances: whether values stand for squared distances.
        scales: (n,) of similarities; None for 1.
    """

    def __init__(self, rows: Float32Array, *, distances: bool, scales: Float32Array | None = None) -> None:
        multiply_alone()
        self._rows = rows
        self._distances = distances
        self._scales = scales
        self._centre = np.zeros(rows.shape[1], np.float32)
        self._added: Float32Array | None = None
        if distances and len(rows):
            self._centre = rows[:: max(1, len(rows) // _CENTRE)].mean(axis=0, dtype=np.float64).astype(np.float32)
            self._added = np.concatenate(spread(self._squares, len(rows), _ROWS))
        self._offset = float(np.sqrt(np.square(self._centre, dtype=np.float64).sum()))

    def _squares(self, part: slice) -> Float32Array:
        """The squared lengths of rows less the centre."""
        squares = np.empty(part.stop - part.start, np.float32)
        step = max(1, _VALUES // self._rows.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(squares), step):
                block = self._rows[part][start : start + step] - self._centre
                squares[start : start + step] = np.einsum("ij,ij->i", block, block)
        return squares

    @property
    def longest(self) -> float:
        """The largest length of a row less the centre; not finite where float32 cannot hold its square."""
        return float(np.sqrt(self._added.max(initial=0))) if self._added is not None else 0.0

    def asked(self, queries: Float32Array) -> Float32Array:
        """(n, d) queries less the centre."""
        return queries - self._centre if self._distances else queries

    def shifts(self, queries: int) -> bool:
        """Whether so many queries pay for shifting rows, and not queries alone, by the centre."""
        return self._distances and queries >= _FEW

    def bound(self, lengths: Float64Array, worst: Float64Array, *, shift: bool) -> Float64Array:
        """How far values can be off, of rows within a squared distance.

        Args:
            lengths: (n,) of the queries less the centre.
            worst: (n,) the squared distance.
            shift: as `minima`.
        """
        reach = lengths + np.sqrt(worst)  # no such row is further from the centre, by the triangle inequality
        offset = 0.0 if shift else self._offset
        tiny = self._rows.shape[1] * TINY  # denormals may be flushed to zero
        relative = (self._rows.shape[1] + 16) * EPSILON
        return np.asarray(relative * (np.square(reach) + 2 * (reach + offset) * lengths) + 4 * tiny)

    def minima(self, asked: Float32Array, group: int, *, shift: bool) -> Float32Array:
        """Computes all values and keeps the smallest of each group of rows.

        Args:
            asked: (n, d) some of what `asked` gave.
            group: rows in a group: 1 or `GROUP`.
            shift: what `shifts` says of all queries.

        Returns:
            (n, groups).
        """
        layout = _Layout(self._rows.shape, len(asked), group)
        minima = np.empty((len(asked), layout.groups), np.float32)
        factors = asked * np.float32(-2 if self._distances else -1)

        @np.errstate(over="ignore", invalid="ignore")
        def fill(part: slice) -> None:
            buffer = np.empty(layout.step * min(len(asked), _QUERIES), np.float32)
            for chunk in range(part.start, part.stop):
                rows, places = layout.rows(chunk), layout.places(chunk)
                block = self._rows[rows]
                block = block - self._centre if shift else block
                for start in range(0, len(asked), _QUERIES):
                    some = factors[start : start + _QUERIES]
                    width = (places.stop - places.start) * group
                    values = buffer[: len(some) * width].reshape(len(some), width)
                    here = values[:, : len(block)]
                    np.matmul(some, block.T, out=here)
                    if self._added is not None:
                        here += self._added[rows]
                    if self._scales is not None:
                        here *= self._scales[rows]
                    values[:, len(block) :] = np.inf
                    out = minima[start : start + _QUERIES, places]
                    np.minimum.reduce(values.reshape(len(some), group, -1), axis=1, out=out)

        spread(fill, layout.chunks)
        if self._distances and not shift:
            with np.errstate(over="ignore", invalid="ignore"):
                minima += 2 * (asked @ self._centre)[:, np.newaxis]
        return minima

    def members(self, places: Int64Array, asked: int, group: int) -> Int64Array:
        """The rows of groups.

        Args:
            places: (n, m) columns of what `minima` gave.
            asked: how many queries it was asked for.
            group: as `minima`.

        Returns:
            (n, m * group) row numbers, -1 for none.
        """
        return _Layout(self._rows.shape, asked, group).members(places)


class _Layout:
    """How rows are cut into chunks, and these into groups: group j of a chunk has every g-th of its rows from j on."""

    def __init__(self, shape: tuple[int, ...], queries: int, group: int) -> None:
        self._rows, columns = shape
        self._group = group
        step = min(_ROWS, _VALUES // min(queries, _QUERIES), _NUMBERS // columns)
        self.step = max(1, step // GROUP) * GROUP
        self.chunks = -(-self._rows // self.step)
        self._full = self.step // group
        self._last = -(-(self._rows - (self.chunks - 1) * self.step) // group)  # groups in the last chunk
        self.groups = (self.chunks - 1) * self._full + self._last

    def rows(self, chunk: int) -> slice:
        return slice(chunk * self.step, min((chunk + 1) * self.step, self._rows))

    def places(self, chunk: int) -> slice:
        return slice(chunk * self._full, min((chunk + 1) * self._full, self.groups))

    def members(self, places: Int64Array) -> Int64Array:
        if self._group == 1:
            return places
        chunks = places // self._full
        apart = np.where(chunks == self.chunks - 1, self._last, self._full)
        first = chunks * self.step + places % self._full
        rows = first[:, :, np.newaxis] + apart[:, :, np.newaxis] * np.arange(self._group)
        rows = rows.reshape(len(places), places.shape[1] * self._group)
        ends = np.repeat(np.minimum((chunks + 1) * self.step, self._rows), self._group, axis=1)
        return np.where(rows < ends, rows, -1)
