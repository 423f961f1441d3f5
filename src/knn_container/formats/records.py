"""Serialised records side by side in one block of memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from knn_container.batch import Int64Array

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Records:
    """n serialised records.

    Attributes:
        block: (m,) the bytes in which they are.
        starts: (n,) where each begins, ascending.
        lengths: (n,) bytes of each.
    """

    block: Bytes
    starts: Int64Array
    lengths: Int64Array

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> bytes:
        start = self.starts[row]
        return self.block[start : start + self.lengths[row]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return map(self.__getitem__, range(len(self)))

    def of_one_length(self) -> Iterator[Int64Array]:
        """Gives the rows of each length that there is, ascending."""
        if (self.lengths == self.lengths[:1]).all():
            yield np.arange(len(self))
            return
        order = np.argsort(self.lengths, kind="stable")
        yield from np.split(order, 1 + np.flatnonzero(np.diff(self.lengths[order])))

    def table(self, rows: Int64Array) -> Bytes:
        """Puts records of one length below each other.

        Args:
            rows: (m,) which, ascending; at least one.

        Returns:
            (m, length) their bytes, without a copy where they are equally far from each other.
        """
        starts, length = self.starts[rows], int(self.lengths[rows[0]])
        strides = np.diff(starts)
        stride = int(strides[0]) if len(strides) else length
        if (strides == stride).all():
            return as_strided(self.block[starts[0] :], (len(rows), length), (stride, 1), writeable=False)
        places = (len(self.block) - length + 1, length)
        found: Bytes = as_strided(self.block, places, (1, 1), writeable=False)[starts]
        return found

    @classmethod
    def of(cls, payloads: Sequence[bytes]) -> "Records":
        """Joins records that are apart."""
        lengths = np.fromiter(map(len, payloads), np.int64, len(payloads))
        starts = np.cumsum(lengths) - lengths
        return cls(np.frombuffer(b"".join(payloads), np.uint8), starts, lengths)
