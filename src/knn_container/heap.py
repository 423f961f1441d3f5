"""How glibc's malloc holds memory; other C libraries go on as they do."""

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)


def return_large_blocks() -> None:
    """Has glibc map blocks of a megabyte and more, and so hand them back when they are freed.

    By itself it raises its threshold with use, and then keeps what threads have freed.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def return_freed() -> None:
    """Hands back what has been freed so far, also from between blocks that are in use."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_large_blocks() -> None:
    """Hands back what has been freed so far, and has glibc keep blocks of up to 32 MB from then on.

    A search that takes them again is up to a fifth faster.
    """
    return_freed()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def share_one_heap() -> None:
    """Has all threads that start from now on take memory from one heap, where glibc gives them some heaps each.

    What one thread has freed, another then takes; Python's lock lets few of them ask at once anyway.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
