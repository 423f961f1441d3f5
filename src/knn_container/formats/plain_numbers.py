"""Lines of plain numbers, parsed together in C; whatever is not plain is left to the careful parser."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import numpy as np

from knn_container import kernels
from knn_container.batch import Float64Array
from knn_container.errors import ReadingStopped

BLOCK = 1 << 19  # bytes that are parsed together, or one line


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


def tables(stream: BinaryIO, threads: int = 1) -> Iterator[tuple[bytes, Float64Array | None]]:
    """Cuts text into blocks, as `blocks` does, with what `decode` makes of each; so many threads parse side by side.

    Raises:
        OSError: the stream's; what has come before it is given first.
    """
    if threads == 1:
        yield from ((block, decode(block)) for block in blocks(stream))
        return
    begun: deque[tuple[bytes, Future[Float64Array | None]]] = deque()

    def ended(most: int) -> Iterator[tuple[bytes, Float64Array | None]]:
        while len(begun) > most:
            block, found = begun.popleft()
            yield block, found.result()

    with ThreadPoolExecutor(threads, "csv") as pool:
        try:
            for block in blocks(stream):
                begun.append((block, pool.submit(decode, block)))
                yield from ended(threads if len(block) <= 2 * BLOCK else 0)  # of very long lines, one is enough
        except Exception:
            yield from ended(0)
            raise
        yield from ended(0)


def decode(block: bytes) -> Float64Array | None:
    """Parses lines of comma-separated numbers.

    Args:
        block: the lines.

    Returns:
        (n, d) one row a line; None where lines differ in their number of cells, or are not all of plain numbers.
    """
    if not block:
        return None
    found = kernels.parse_numbers(block if block.endswith(b"\n") else block + b"\n")
    if found is None:
        return None
    numbers, columns = found
    return np.frombuffer(numbers, np.float64).reshape(-1, columns)
