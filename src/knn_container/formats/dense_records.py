"""Dense records of one layout, decoded together without a protobuf parser.

Files mostly hold records that differ in their numbers alone. The first record shows where these are; if every other
byte of every record equals the first's, so does every record's structure, and the numbers are columns of one table.
Anything else is left to the parser. The wire format is that of protobuf.dev's "Encoding".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEATURES, _LABEL = 1, 2  # fields of a record
_KEY, _VALUE = 1, 2  # fields of an entry of a map
# By the field of a value that holds the tensor.
_DTYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<f4"), 3: np.dtype("<f8")}
_VALUES = 1  # field of a tensor
_LENGTH_DELIMITED = 2

Floats = NDArray[np.float32 | np.float64]


@dataclass(frozen=True)
class _Span:
    """Where a tensor's packed numbers are in a record."""

    start: int
    end: int
    dtype: np.dtype[Any]

    def cut(self, table: NDArray[np.uint8]) -> Floats:
        return np.ascontiguousarray(table[:, self.start : self.end]).view(self.dtype)


def table(payloads: Sequence[bytes]) -> NDArray[np.uint8] | None:
    """Puts serialised records of one length below each other: (n, length) bytes; None where lengths differ."""
    length = len(payloads[0])
    if any(len(payload) != length for payload in payloads):
        return None
    return np.frombuffer(b"".join(payloads), np.uint8).reshape(len(payloads), length)


def decode(records: NDArray[np.uint8]) -> tuple[Floats, Floats] | None:
    """Decodes records that all have one feature and one label tensor, dense, of floats, and nothing else.

    Args:
        records: (n, length) bytes, at least one serialised record.

    Returns:
        (n, d) features and (n, m) labels; None where the records are not of this kind or not of one layout.
    """
    first = records[0].tobytes()
    spans = _locate(first)
    if spans is None:
        return None
    structure = np.ones(len(first), bool)
    for span in spans:
        structure[span.start : span.end] = False
    if not (records[:, structure] == records[0, structure]).all():
        return None
    return spans[0].cut(records), spans[1].cut(records)


def _locate(record: bytes) -> tuple[_Span, _Span] | None:
    """Finds the feature and the label numbers."""
    try:
        entries = _once(record, 0, len(record))
        features, label = (_span(record, *entries.pop(field)) for field in (_FEATURES, _LABEL))
    except (KeyError, ValueError, IndexError):
        return None
    return None if entries else (features, label)


def _span(record: bytes, start: int, end: int) -> _Span:
    """Finds the numbers in a map's entry.

    Raises:
        KeyError, ValueError, IndexError: it holds something else.
    """
    entry = _once(record, start, end)
    if record[slice(*entry.pop(_KEY))] != b"values":
        raise ValueError("another key")
    ((kind, tensor),) = _once(record, *entry.pop(_VALUE)).items()
    ((field, numbers),) = _once(record, *tensor).items()
    dtype = _DTYPES[kind]
    if entry or field != _VALUES or (numbers[1] - numbers[0]) % dtype.itemsize:
        raise ValueError("more than packed numbers")
    return _Span(*numbers, dtype)


def _once(message: bytes, start: int, end: int) -> dict[int, tuple[int, int]]:
    """The spans of a message's fields, each length-delimited and there once.

    Raises:
        ValueError: a field that is not.
    """
    spans: dict[int, tuple[int, int]] = {}
    for tag, span in _fields(message, start, end):
        if tag & 7 != _LENGTH_DELIMITED or tag >> 3 in spans or span[1] > end:
            raise ValueError("an unusual field")
        spans[tag >> 3] = span
    return spans


def _fields(message: bytes, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    while start < end:
        tag, start = _varint(message, start)
        length, start = _varint(message, start)
        yield tag, (start, start + length)
        start += length


def _varint(message: bytes, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
