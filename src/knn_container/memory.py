"""How much memory this container may use."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # mallopt(3)


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
    """The bytes that this process may take for what only makes it faster: half of its share of what is free."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    free = limit() // processes - pages * os.sysconf("SC_PAGE_SIZE")
    return max(0, free // 2)


def return_large_blocks() -> None:
    """Has glibc map blocks of a megabyte and more, and so hand them back when they are freed.

    By itself it raises its threshold with use, and then keeps what threads have freed.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def share_one_heap() -> None:
    """Has all threads that start from now on take memory from one heap, where glibc gives them some heaps each.

    What one thread has freed, another then takes; Python's lock lets few of them ask at once anyway.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
