"""Where a dense record has its numbers, by the wire format that protobuf.dev's "Encoding" describes.

Records of one layout differ in their numbers and names alone: if all other bytes of a record equal those of one whose
structure is known, so does its structure. What is unusual has no layout here and is left to protobuf's parser.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import BoolArray
from knn_container.formats.records import Bytes

_FEATURES, _LABEL, _UID, _METADATA, _CONFIGURATION = 1, 2, 3, 4, 5  # fields of a record
_KEY, _VALUE = 1, 2  # fields of an entry of a map
_VALUES, _SHAPE = 1, 3  # fields of a tensor
_INT32 = 7
# By the field of a value that holds the tensor.
_DTYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<f4"), 3: np.dtype("<f8"), _INT32: np.dtype("<i4")}
_LENGTH_DELIMITED = 2
_LONGEST_VARINT = 10

Place = tuple[int, int]  # where something begins and ends
Numbers = NDArray[np.float32 | np.float64 | np.int32]


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's packed numbers are in a record.

    Attributes:
        place: of their bytes.
        dtype: of the numbers; int32 are varints.
        size: how many there are.
    """

    place: Place
    dtype: np.dtype[Any]
    size: int

    def fits(self, table: Bytes) -> BoolArray:
        """Which of (n, length) records hold `size` numbers there; (n,)."""
        if self.dtype != np.int32:
            return np.ones(len(table), bool)
        ends = table[:, slice(*self.place)] < 0x80
        fitting: BoolArray = ends[:, -1] & (np.count_nonzero(ends, axis=1) == self.size)
        return fitting

    def read(self, table: Bytes) -> Numbers:
        """Reads the numbers of (n, length) records that fit; (n, size), perhaps a view.

        Raises:
            ValueError: a varint is longer than any.
        """
        packed = table[:, slice(*self.place)]
        return packed.view(self.dtype) if self.dtype != np.int32 else _read_int32(packed, self.size)


@dataclass(frozen=True)
class Layout:
    """Where a record has what.

    Attributes:
        features, label: the tensors; a record may have no label.
        uid: its name; of no bytes where it has none.
        rest: all else that tells its structure.
    """

    features: Tensor
    label: Tensor | None
    uid: Place
    rest: list[Place]

    def fits(self, table: Bytes) -> BoolArray:
        """Which of (n, length) records have the layout of the first, whose it is; (n,)."""
        fitting = self.features.fits(table)
        if self.label:
            fitting &= self.label.fits(table)
        for start, end in self.rest:
            same = table[:, start:end] == table[0, start:end]
            if not same.all():
                fitting &= same.all(axis=1)
        return fitting


def locate(record: bytes) -> Layout | None:
    """Finds the layout of a dense record; None of any other.

    Args:
        record: serialised.
    """
    try:
        fields = _once(record, (0, len(record)))
        features = _tensor(record, fields.pop(_FEATURES))
        label = _tensor(record, fields.pop(_LABEL)) if _LABEL in fields else None
        uid = fields.pop(_UID, (0, 0))
        unread = [fields.pop(field) for field in (_METADATA, _CONFIGURATION) if field in fields]
    except (KeyError, ValueError, IndexError):
        return None
    if fields:
        return None
    free = [features.place, *([label.place] if label else []), uid, *unread]
    ends = sorted([(0, 0), *free, (len(record), len(record))])
    rest = [(end, start) for (_, end), (start, _) in pairwise(ends) if end < start]
    return Layout(features, label, uid, rest)


def _tensor(record: bytes, place: Place) -> Tensor:
    """Finds the numbers in a map's entry.

    Raises:
        KeyError, ValueError, IndexError: it holds something else.
    """
    entry = _once(record, place)
    if record[slice(*entry.pop(_KEY))] != b"values":
        raise ValueError("another key")
    ((kind, tensor),) = _once(record, entry.pop(_VALUE)).items()
    fields, dtype = _once(record, tensor), _DTYPES[kind]
    start, end = fields.pop(_VALUES)
    size, odd = divmod(end - start, dtype.itemsize)
    if kind == _INT32:
        size, odd = int(np.count_nonzero(np.frombuffer(record, np.uint8)[start:end] < 0x80)), 0
    shape = list(_varints(record, fields.pop(_SHAPE))) if _SHAPE in fields else [size]
    if entry or fields or odd or not size or prod(shape or [size]) != size:
        raise ValueError("more than numbers, or fewer")
    return Tensor((start, end), dtype, size)


def _once(message: bytes, place: Place) -> dict[int, Place]:
    """The places of a message's fields, each length-delimited and there once.

    Raises:
        ValueError, IndexError: a field that is not.
    """
    places: dict[int, Place] = {}
    start, end = place
    while start < end:
        tag, start = _varint(message, start)
        length, start = _varint(message, start)
        if tag & 7 != _LENGTH_DELIMITED or tag >> 3 in places or start + length > end:
            raise ValueError("an unusual field")
        places[tag >> 3] = start, start + length
        start += length
    return places


def _varints(message: bytes, place: Place) -> Iterator[int]:
    start, end = place
    while start < end:
        value, start = _varint(message, start)
        yield value
    if start > end:
        raise ValueError("a number without an end")


def _varint(message: bytes, start: int) -> tuple[int, int]:
    """Reads a number that is written as shortly as can be."""
    value = shift = 0
    while True:
        byte = message[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if shift > 28 or (shift and not byte):
                raise ValueError("an unusual number")
            return value, start
        shift += 7


def _read_int32(packed: Bytes, size: int) -> Numbers:
    """Reads (n, length) bytes of which each row holds `size` varints."""
    if packed.shape[1] == size:
        return packed.astype(np.int32)
    flat = packed.ravel()
    lasts = np.flatnonzero(flat < 0x80)
    starts = np.append(0, lasts[:-1] + 1)
    longest = int((lasts - starts).max()) + 1
    if longest > _LONGEST_VARINT or (longest == _LONGEST_VARINT and (flat[lasts[lasts - starts == 9]] > 1).any()):
        raise ValueError("an unusual number")
    numbers = np.zeros(len(lasts), np.uint32)
    for place in range(min(longest, 5)):  # the upper half of a negative number's 64 bits tells nothing
        byte = flat[np.minimum(starts + place, lasts)] & np.uint32(0x7F)
        numbers |= np.where(starts + place <= lasts, byte << np.uint32(7 * place), np.uint32(0))
    return numbers.view(np.int32).reshape(len(packed), size)
