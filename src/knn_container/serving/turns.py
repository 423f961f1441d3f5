"""Turns at the CPUs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import faiss


class CpuTurns:
    """Shares the CPUs among the searches of a process.

    A search alone uses all of them; searches side by side use fewer each, so that threads never outnumber CPUs by
    much. More searches than CPUs wait.
    """

    def __init__(self, cpus: int) -> None:
        self.cpus = cpus
        self._slots = threading.BoundedSemaphore(cpus)
        self._lock = threading.Lock()
        self._active = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for a CPU and sets how many OpenMP threads this thread may use."""
        with self._slots:
            with self._lock:
                self._active += 1
                threads = max(1, self.cpus // self._active)
            faiss.omp_set_num_threads(threads)
            try:
                yield
            finally:
                with self._lock:
                    self._active -= 1
