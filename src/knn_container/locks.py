"""A lock between processes."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


class ProcessLock:
    """Lets one process in at a time, of those that descend from the one that makes it.

    It is given back with the process at the latest. Threads of one process do not keep each other out.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("lock")

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Waits, and holds the lock until the context ends."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def __del__(self) -> None:
        os.close(self._file)
