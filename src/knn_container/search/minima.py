"""The smallest values of many rows and queries, by matrix products.

NumPy multiplies blocks of rows and queries that fit a core's cache and keeps the minimum of each group of 16 rows: of
all values, the n smallest lie in the n groups whose minima are smallest.
"""

import numpy as np

from knn_container.batch import Float32Array, Float64Array, Int64Array
from knn_container.search.engines import EPSILON, TINY
from knn_container.search.threads import multiply_alone, spread

GROUP = 16  # rows
_VALUES = 1 << 18  # that one step computes: 1 MiB
_QUERIES, _ROWS, _NUMBERS = 256, 1 << 14, 1 << 18  # that it computes them for, and numbers of the rows, at most
_FEW = 64  # queries, fewer than which do not pay for shifting rows
_CENTRE = 1 << 12  # rows whose mean is taken for that of all


def smallest(values: Float32Array, count: int) -> tuple[Int64Array, Float32Array]:
    """Selects the smallest numbers of each row.

    Args:
        values: (n, m).
        count: how many of each row, at most m.

    Returns:
        (n, count) their places in no order, and (n,) the largest of them.
    """
    rows, columns = values.shape
    groups = columns // GROUP
    if groups <= count:
        return _select(values, count)
    # Group j has every `groups`-th number from j on; what is left over is looked at in any case.
    minima = np.minimum.reduce(values[:, : groups * GROUP].reshape(rows, GROUP, groups), axis=1)
    members = smallest(minima, count)[0][:, :, np.newaxis] + np.arange(GROUP) * groups
    rest = np.broadcast_to(np.arange(groups * GROUP, columns), (rows, columns - groups * GROUP))
    places = np.concatenate([members.reshape(rows, -1), rest], axis=1)
    chosen, largest = _select(np.take_along_axis(values, places, axis=1), count)
    return np.take_along_axis(places, chosen, axis=1), largest


def _select(values: Float32Array, count: int) -> tuple[Int64Array, Float32Array]:
    """As `smallest`, by looking at each number: NumPy finds the largest faster than its place."""
    rows, columns = values.shape
    largest = np.partition(values, count - 1, axis=1)[:, count - 1]
    chosen = np.flatnonzero(values <= largest[:, np.newaxis])
    if len(chosen) == rows * count and not np.isnan(largest).any():
        return (chosen % columns).reshape(rows, count), largest
    return np.argpartition(values, count - 1, axis=1)[:, :count], largest  # there are ties, or no numbers


def copied(rows: Float32Array, copy: Float32Array) -> Float32Array:
    """Copies (n, d) rows into the first n of others and gives these.

    The rows of an index that is mapped from a file are not aligned: NumPy would copy them one number after another,
    and to multiply them or to take some, all of them each time.
    """
    here = copy[: len(rows)]
    np.copyto(here.view(np.uint8), rows.view(np.uint8))
    return here


class Values:
    """Computes values in float32 of which the smallest are of the nearest rows.

    Of squared distances, the value of row x for query q is |x - c|² - 2 (x - c)(q - c), which orders rows as
    |x - q|² does: with c amid the rows, products are small, and so is their rounding. Of similarities it is -xq s,
    with a scale s for each row.

    Args:
        rows: (n, d).
        distances: whether values stand for squared distances.
        scales: (n,) of similarities; None for 1.

    Attributes:
        longest: the largest length of a row less the centre; not finite where float32 cannot hold its square.
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
        self.longest = float(np.sqrt(self._added.max(initial=0))) if self._added is not None else 0.0

    def _squares(self, part: slice) -> Float32Array:
        """The squared lengths of rows less the centre."""
        squares = np.empty(part.stop - part.start, np.float32)
        step = max(1, _VALUES // self._rows.shape[1])
        copy = np.empty((step, self._rows.shape[1]), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(squares), step):
                block = copied(self._rows[part][start : start + step], copy)
                block -= self._centre
                squares[start : start + step] = np.einsum("ij,ij->i", block, block)
        return squares

    def asked(self, queries: Float32Array) -> Float32Array:
        """(n, d) queries less the centre."""
        return queries - self._centre if self._distances else queries

    def shifts(self, queries: int) -> bool:
        """Whether rows are shifted by the centre, and not queries alone: where many pay for it, or rows lie far off."""
        return self._distances and (queries >= _FEW or self._offset > self.longest)

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
            group: rows in a group: a divisor of `GROUP`.
            shift: what `shifts` says of all queries.

        Returns:
            (n, groups).
        """
        layout = _Layout(self._rows.shape, len(asked), group)
        minima = np.empty((len(asked), layout.groups), np.float32)
        with np.errstate(over="ignore"):
            factors = np.ascontiguousarray(asked.T) * np.float32(-2 if self._distances else -1)

        @np.errstate(over="ignore", invalid="ignore")
        def fill(part: slice) -> None:
            buffer = np.empty(layout.step * min(len(asked), _QUERIES), np.float32)
            copies = shift or not self._rows.flags.aligned
            copy = np.empty((layout.step, self._rows.shape[1]) if copies else 0, np.float32)
            for chunk in range(part.start, part.stop):
                rows, places = layout.rows(chunk), layout.places(chunk)
                block = self._rows[rows]
                if copies:
                    block = copied(block, copy)
                if shift:
                    block -= self._centre
                for start in range(0, len(asked), _QUERIES):
                    some = factors[:, start : start + _QUERIES]
                    height = (places.stop - places.start) * group
                    values = buffer[: height * some.shape[1]].reshape(height, -1)
                    here = values[: len(block)]
                    np.matmul(block, some, out=here)
                    if self._added is not None:
                        here += self._added[rows, np.newaxis]
                    if self._scales is not None:
                        here *= self._scales[rows, np.newaxis]
                    values[len(block) :] = np.inf
                    least = np.minimum.reduce(values.reshape(group, -1, some.shape[1])) if group > 1 else values
                    minima[start : start + _QUERIES, places] = least.T

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
