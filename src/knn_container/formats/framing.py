"""RecordIO: records in frames, as Apache MXNet's dmlc-core writes them (include/dmlc/recordio.h).

A frame is a little-endian u32 magic, a u32 whose upper 3 bits are the part flag and whose lower 29 bits are the
length, the payload, and zeros up to a multiple of 4. A writer that finds the magic inside a payload cuts the record
there and drops those 4 bytes; a reader puts them back between the parts. Lengths are trusted and the magic is never
searched for, since SageMaker's own SDK writes payloads that hold it uncut.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from itertools import islice
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from knn_container.errors import FormatError, ReadingStopped

MAGIC = b"\x0a\x23\xd7\xce"
_HEADER = struct.Struct("<4sI")
_LENGTH_BITS = 29
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
LARGEST_BLOCK = 1 << 22  # bytes that are taken together: 4 MiB, or one record
_FEW = 16  # records of one length at least are worth a table


class _Bytes(Protocol):
    def read(self, size: int, /) -> bytes:
        """Reads `size` bytes, fewer at the end."""


def read_payloads(stream: _Bytes, first_row: int = 1) -> Iterator[bytes]:
    """Takes the frames off a stream and joins the parts of each record.

    Args:
        stream: frames up to its end.
        first_row: the number of the first record, for errors.

    Raises:
        FormatError: a wrong magic, a part out of order, or an end in mid-record.
    """
    row = first_row
    parts: list[bytes] = []
    with suppress(ReadingStopped):
        while header := stream.read(_HEADER.size):
            flag, length = _read_header(header, row)
            if (flag in (_WHOLE, _FIRST)) != (not parts):
                raise FormatError(f"a part of a record is out of order (part flag {flag})", row)
            part = stream.read(length + -length % 4)
            # Some writers leave out the padding behind the last frame.
            if len(part) < length:
                raise FormatError(f"the data end inside a record, after {len(part)} of {length} bytes", row)
            parts.append(part[:length])
            if flag in (_WHOLE, _LAST):
                yield parts[0] if flag == _WHOLE else MAGIC.join(parts)
                parts.clear()
                row += 1
        if parts:
            raise FormatError("the data end before the record's last part", row)


def _read_header(header: bytes, row: int) -> tuple[int, int]:
    if len(header) < _HEADER.size:
        raise FormatError(f"the data end inside a frame's header, after {len(header)} of 8 bytes", row)
    magic, flag_and_length = _HEADER.unpack(header)
    if magic != MAGIC:
        raise FormatError(
            f"expected a RecordIO frame (magic {MAGIC.hex()}), {magic.hex()} came; "
            "if this is CSV, its content type must say so",
            row,
        )
    flag, length = flag_and_length >> _LENGTH_BITS, flag_and_length & ((1 << _LENGTH_BITS) - 1)
    if flag > _LAST:
        raise FormatError(f"the frame's part flag is {flag}, expected 0 to 3", row)
    return flag, length


def frame(payload: bytes) -> bytes:
    """Frames one record as a single part: SageMaker's SDK reads no others."""
    return b"".join((_HEADER.pack(MAGIC, len(payload)), payload, bytes(-len(payload) % 4)))


class Frames:
    """A stream of frames that gives records of one length as a table, without looking at each.

    Args:
        stream: frames up to its end.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._read1: Callable[[int], bytes] = stream.read1  # type: ignore[attr-defined]
        self._ahead = BytesIO()  # read, but given back
        self._stopped = False
        self._row = 1

    def table(self, count: int) -> NDArray[np.uint8] | None:
        """Takes up to `count` records of one length, if many follow each other; all of them at most `LARGEST_BLOCK`.

        Returns:
            (n, length) the payloads; None where the next records differ in length, or are in several parts.
        """
        header = self._take(_HEADER.size)
        magic, length = _HEADER.unpack(header) if len(header) == _HEADER.size else (b"", 0)
        if magic != MAGIC or not 0 < length < 1 << _LENGTH_BITS:
            self._give_back(header)
            return None
        stride = _HEADER.size + length + -length % 4
        count = max(1, min(count, LARGEST_BLOCK // stride))
        block = header + self._take(stride * count - len(header))
        whole = len(block) // stride
        table = np.frombuffer(block, np.uint8, whole * stride).reshape(whole, stride)
        headers = np.ascontiguousarray(table[:, : _HEADER.size]).view(np.uint64)[:, 0] if whole else np.empty(0)
        same = int(np.argmin(headers == headers[0])) if whole and not (headers == headers[0]).all() else whole
        if same < min(count, _FEW) or (same < whole and same < count // 2):
            self._give_back(block)
            return None
        self._give_back(block[same * stride :])
        self._row += same
        return table[:same, _HEADER.size : _HEADER.size + length]

    def payloads(self, count: int) -> list[bytes]:
        """Takes up to `count` records one by one, and no further one after `LARGEST_BLOCK`.

        Raises:
            FormatError: as `read_payloads`.
        """
        found: list[bytes] = []
        room = LARGEST_BLOCK
        for payload in islice(read_payloads(self, self._row), count):
            found.append(payload)
            room -= len(payload)
            if room <= 0:
                break
        self._row += len(found)
        return found

    def read(self, size: int) -> bytes:
        """Reads `size` bytes, fewer at the end.

        Raises:
            ReadingStopped: there are fewer, and not because of the end.
        """
        block = self._take(size)
        if len(block) < size and self._stopped:
            raise ReadingStopped
        return block

    def _take(self, size: int) -> bytes:
        """Reads what there is of `size` bytes."""
        pieces = [self._ahead.read(size)]
        missing = size - len(pieces[0])
        while missing and not self._stopped:
            try:
                piece = self._read1(missing)
            except ReadingStopped:
                self._stopped = True
                break
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _give_back(self, block: bytes) -> None:
        self._ahead = BytesIO(block + self._ahead.read())
