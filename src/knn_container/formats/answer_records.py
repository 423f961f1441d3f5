"""Answers as records whose tensors have the same sizes in every row, written as one table."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from knn_container.batch import Column
from knn_container.formats.framing import frame
from knn_container.formats.records import Bytes

_LABEL, _KEY, _VALUE, _VALUES = b"\x12", b"\x0a", b"\x12", b"\x0a"  # tags of a record, of a map's entry, of a tensor
_TENSORS: dict[np.dtype[Any], bytes] = {np.dtype(np.float32): b"\x12", np.dtype(np.float64): b"\x1a"}  # tags of a value
_FEW = 4  # rows at least are worth a table


def encode(columns: Mapping[str, Column]) -> bytes | None:
    """Encodes one framed record a row, whose label map holds a tensor for each column.

    Args:
        columns: for every row a number or an array, by name; float32 stay, others become float64.

    Returns:
        The frames; None where there are few rows, or a column holds text, nothing, or arrays of several lengths.
    """
    rows = min(map(len, columns.values()), default=0)
    if rows < _FEW:
        return None
    pieces: list[Bytes] = []  # of a record: what is the same in all rows, and the numbers
    for name, column in columns.items():
        try:
            numbers = np.array(column)
        except ValueError:
            return None
        if not numbers.size or numbers.dtype.kind not in "iuf":
            return None
        kept = numbers.reshape(rows, -1).astype(numbers.dtype if numbers.dtype in _TENSORS else np.float64, copy=False)
        packed = kept.view(np.uint8)
        pieces += [_same(_head(name.encode(), _TENSORS[kept.dtype], packed.shape[1])), packed]
    size = sum(piece.shape[1] for piece in pieces)
    header, padding = frame(bytes(size))[:8], bytes(-size % 4)
    pieces = [_same(header), *pieces, _same(padding)]
    return np.hstack([np.broadcast_to(piece, (rows, piece.shape[1])) for piece in pieces]).tobytes()


def _same(text: bytes) -> Bytes:
    return np.frombuffer(text, np.uint8).reshape(1, -1)


def _head(name: bytes, kind: bytes, size: int) -> bytes:
    """All of an entry of the label map that comes before the `size` bytes of its numbers."""
    tensor = _VALUES + _varint(size)
    value = kind + _varint(len(tensor) + size) + tensor
    entry = _KEY + _varint(len(name)) + name + _VALUE + _varint(len(value) + size) + value
    return _LABEL + _varint(len(entry) + size) + entry


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
