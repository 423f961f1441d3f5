"""RecordIO: records in frames, as Apache MXNet's dmlc-core writes them (include/dmlc/recordio.h).

A frame is a little-endian u32 magic, a u32 whose upper 3 bits are the part flag and whose lower 29 bits are the
length, the payload, and zeros up to a multiple of 4. A writer that finds the magic inside a payload cuts the record
there and drops those 4 bytes; a reader puts them back between the parts. Lengths are trusted and the magic is never
searched for, since SageMaker's own SDK writes payloads that hold it uncut.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import Int64Array
from knn_container.errors import FormatError, ReadingStopped
from knn_container.formats.records import Bytes, Records

MAGIC = b"\x0a\x23\xd7\xce"
_MAGIC_WORD = int.from_bytes(MAGIC, "little")
_HEADER = struct.Struct("<4sI")
_LENGTH_BITS = 29
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
LARGEST_BLOCK = 1 << 22  # bytes that are taken together: 4 MiB, or one record


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """Reads `size` bytes, fewer at the end."""


def read_payloads(stream: _Readable, first_row: int = 1) -> Iterator[bytes]:
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
    """A stream of frames that are taken many at a time, mostly without looking at each.

    Args:
        stream: frames up to its end.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._readinto1: Callable[[Bytes], int] = stream.readinto1  # type: ignore[attr-defined]
        self._ahead: Bytes = np.empty(0, np.uint8)  # read, but not taken
        self._stopped = False
        self._row = 1
        self._stride = 0  # bytes of a frame, of those taken last

    def take(self, count: int) -> Records:
        """Takes up to `count` records, fewer where they are long or at the end; none at the end.

        Records take at most `LARGEST_BLOCK` together, unless it is one.

        Raises:
            FormatError: as `read_payloads`.
        """
        records = self._find(count)
        if not len(records):
            return Records.of(self._payloads(count))
        end = int(records.starts[-1] + records.lengths[-1] + 3 & ~3)
        self._ahead = self._ahead[end:]
        self._row += len(records)
        self._stride = -(-end // len(records))
        return records

    def _find(self, count: int) -> Records:
        """Reads as much as up to `count` whole frames should take, and finds them; fewer before one that is not."""
        size = count * (self._stride or self._first_stride())
        while True:
            size = min(size, LARGEST_BLOCK)
            block = self._fill(size)
            starts, lengths = find_frames(block)
            missing = count - len(starts)
            if missing <= 0 or len(block) < size or len(block) >= LARGEST_BLOCK:
                return Records(block, starts[:count], lengths[:count])
            size += missing * (size // max(1, len(starts)))

    def _first_stride(self) -> int:
        header = self._fill(_HEADER.size)[: _HEADER.size].tobytes()
        magic, length = _HEADER.unpack(header) if len(header) == _HEADER.size else (b"", 0)
        return _HEADER.size + length + -length % 4 if magic == MAGIC else 1

    def _payloads(self, count: int) -> list[bytes]:
        """Takes up to `count` records one by one, and no further one after `LARGEST_BLOCK`."""
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
        pieces = []
        while size and len(piece := self._fill(min(size, LARGEST_BLOCK))):
            pieces.append(piece[:size].tobytes())
            self._ahead = piece[size:]
            size -= len(pieces[-1])
        if size and self._stopped:
            raise ReadingStopped
        return b"".join(pieces)

    def _fill(self, size: int) -> Bytes:
        """Reads until `size` bytes are there, if there are as many, and gives all that are."""
        filled = len(self._ahead)
        if filled < size and not self._stopped:
            block = np.empty(size, np.uint8)
            block[:filled] = self._ahead
            try:
                while filled < size and (came := self._readinto1(block[filled:])):
                    filled += came
            except ReadingStopped:
                self._stopped = True
            self._ahead = block[:filled]
        return self._ahead


def find_frames(block: Bytes) -> tuple[Int64Array, Int64Array]:
    """Finds the whole frames at the beginning of a block, up to one that is broken or a part of a record.

    Args:
        block: (m,) bytes, of which a frame begins at the first.

    Returns:
        (n,) where the payloads begin, and (n,) their lengths.
    """
    words = block[: len(block) // 4 * 4].view("<u4")
    if alike := _count_alike(words):
        lengths = np.full(alike, words[1], np.int64)
        return 4 * _words(int(words[1])) * np.arange(alike) + _HEADER.size, lengths
    places = np.flatnonzero(words[:-1] == _MAGIC_WORD)
    lengths = words[places + 1].astype(np.int64)  # those of parts are too long for any block
    ends = places + _words(lengths)
    # Frames that follow each other are found together; the magic inside a payload makes a gap.
    gaps = np.flatnonzero(ends != np.append(places[1:], -1))
    runs = [np.empty(0, np.int64)]
    following, at = 0, 0
    while following < len(places) and places[following] == at:
        last = gaps[np.searchsorted(gaps, following)]
        run = np.arange(following, last + (ends[last] <= len(words)))
        runs.append(run)
        at = ends[last]
        following = np.searchsorted(places, at)
    found = np.concatenate(runs)
    return 4 * places[found] + _HEADER.size, lengths[found]


def _words(length: Any) -> Any:
    """The words of frames whose payloads have so many bytes."""
    return 2 + (length + 3 >> 2)


def _count_alike(words: NDArray[np.uint32]) -> int:
    """How many whole frames there are, if all have the header of the first; else 0."""
    if len(words) < 2 or words[0] != _MAGIC_WORD:
        return 0
    stride = _words(int(words[1]))
    whole = len(words) // stride
    headers, cut_off = words[: whole * stride].reshape(whole, stride)[:, :2], words[whole * stride :][:2]
    return whole if (headers == words[:2]).all() and (cut_off == words[: len(cut_off)]).all() else 0
