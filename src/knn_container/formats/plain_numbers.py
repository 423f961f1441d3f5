"""Lines of plain numbers, parsed together as one JSON array; whatever is not plain is left to the careful parser.

JSON's numbers are a part of CSV's, and simdjson rounds them to float64 correctly, at several times the speed of
numpy's `loadtxt`.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import simdjson
from numpy.typing import NDArray

from knn_container.batch import Float64Array
from knn_container.errors import ReadingStopped

BLOCK = 1 << 19  # bytes that are parsed together, for which simdjson takes some 6 MiB; or one line
_COMMA, _NEWLINE, _MINUS, _POINT, _ZERO, _OPEN, _CLOSE = b",\n-.0[]"

Bytes = NDArray[np.uint8]


def blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Cuts text in an encoding that extends ASCII into blocks of whole lines, as soon as these have come.

    Args:
        stream: text up to its end, whose last line needs no line end; when it raises `ReadingStopped`, a line without
            an end is dropped.
    """
    pieces: list[bytes] = []
    try:
        while piece := stream.read1(BLOCK):  # type: ignore[attr-defined]
            pieces.append(piece)
            if end := 1 + piece.rfind(b"\n"):
                pieces[-1] = piece[:end]
                yield b"".join(pieces)
                pieces = [piece[end:]]
            elif sum(map(len, pieces)) > BLOCK:
                whole, rest = _cut(b"".join(pieces), -1)
                if whole:
                    yield whole
                pieces = [rest]
    except ReadingStopped:
        pieces = [_cut(b"".join(pieces))[0]]
    if rest := b"".join(pieces):
        yield rest


def _cut(text: bytes, end: int | None = None) -> tuple[bytes, bytes]:
    """Cuts text without a newline behind the last carriage return before `end`, which old Macs have in its place."""
    place = 1 + text[:end].rfind(b"\r")
    return text[:place], text[place:]


def decode(block: bytes, parser: simdjson.Parser | None = None) -> Float64Array | None:
    """Parses lines of comma-separated numbers.

    Args:
        block: the lines.
        parser: one that has parsed others, whose memory is so used again.

    Returns:
        (n, d) one row a line; None where lines differ in their number of cells, or are not all of plain numbers.
    """
    lines = block if block.endswith(b"\n") else block + b"\n"
    # JSON knows no lists here; what else is no number makes the parser fail, or give no numbers.
    if b"[" in lines or (b"\r" in lines and lines.count(b"\r") != lines.count(b"\r\n")):
        return None
    text = np.frombuffer(lines, np.uint8)
    if b"-0" in lines and _has_negative_zero(text):
        return None
    line_ends = text == _NEWLINE
    rows = np.count_nonzero(line_ends)
    cell_ends = np.flatnonzero(line_ends | (text == _COMMA))
    columns, odd = divmod(len(cell_ends), rows)
    if odd or (text[cell_ends[columns - 1 :: columns]] != _NEWLINE).any():
        return None
    array = np.empty(len(text) + 1, np.uint8)
    array[0], array[1:] = _OPEN, text
    array[1:] += line_ends * np.uint8(_COMMA - _NEWLINE)
    array[-1] = _CLOSE
    try:
        numbers: Any = (parser or simdjson.Parser()).parse(array.data)
        return np.frombuffer(numbers.as_buffer(of_type="d"), np.float64).reshape(rows, columns)
    except (ValueError, TypeError, RuntimeError):
        return None


def _has_negative_zero(text: Bytes) -> bool:
    """JSON's whole numbers have none."""
    zeros = text[:-2] == _MINUS
    zeros &= text[1:-1] == _ZERO
    zeros &= text[2:] < _POINT  # a space, a comma, or the line's end
    return bool(zeros.any())
