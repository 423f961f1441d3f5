"""How much memory this container may use."""

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from knn_container.batch import Float64Array
from knn_container.locks import ProcessLock

_HEADER = mmap.PAGESIZE


def limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The bytes of the cgroup's limit or of the machine, whichever are fewer.

    Args:
        cgroup: where the control groups are mounted, version 1 or 2.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroup / file).read_text().strip()
        except OSError:
            continue
        return machine if text == "max" else min(machine, int(text))
    return machine


def room(processes: int = 1) -> int:
    """The bytes that the model of one of so many processes may take for what only makes it faster.

    They are half of what is free, if at least half of what is built there is in a `SharedBlock`.
    """
    _, resident, shared, *_ = (int(pages) * mmap.PAGESIZE for pages in Path("/proc/self/statm").read_text().split())
    free = limit() - shared - processes * (resident - shared)
    return max(0, free // (processes + 1))


class SharedBlock:
    """Numbers in the memory of all processes that descend from the one that makes it.

    Whichever process asks first fills it; the others wait and map it. One that dies in the middle leaves it to the
    next. Of one process, one thread at a time may ask.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("shared block")
        self._lock = ProcessLock()

    def array(self, shape: tuple[int, int], fill: Callable[[Float64Array], None], key: bytes = b"") -> Float64Array:
        """Gives an array that `fill` has filled, in this process or in another; it cannot be written to.

        Args:
            shape: (n, d).
            fill: writes the numbers into an array of this shape.
            key: tells of what the numbers are made, in at most 64 bytes. Where those that are there were made of
                something else, the array is in the memory of this process alone.
        """
        size = _HEADER + 8 * shape[0] * shape[1]
        header = repr((shape, key)).encode()
        with self._lock():
            there = os.pread(self._file, len(header), 0)
            if not there.strip(b"\0"):
                os.ftruncate(self._file, size)
                fill(self._map(shape, mmap.PROT_READ | mmap.PROT_WRITE))
                os.pwrite(self._file, header, 0)
            elif there != header:
                own = np.empty(shape)
                fill(own)
                return own
        return self._map(shape, mmap.PROT_READ)

    def _map(self, shape: tuple[int, int], protection: int) -> Float64Array:
        mapped = mmap.mmap(self._file, _HEADER + 8 * shape[0] * shape[1], prot=protection)
        return np.frombuffer(mapped, np.float64, offset=_HEADER).reshape(shape)

    def __del__(self) -> None:
        os.close(self._file)
