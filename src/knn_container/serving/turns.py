"""Turns at the CPUs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import faiss

from knn_container.serving.processes import Processes


class CpuTurns:
    """Shares the CPUs among the searches of all server processes.

    A search alone uses all of them; searches side by side use fewer each, so that threads never outnumber CPUs by
    much.

    Attributes:
        cpus: that all processes have together.
        searches: that this process may have under way at once.

    Args:
        processes: what they tell each other.
        slot: this one's.
    """

    def __init__(self, cpus: int, processes: Processes | None = None, slot: int = 0) -> None:
        self.cpus = cpus
        self._processes = processes or Processes()
        self.searches = -(-cpus // self._processes.count)
        self._slot = slot
        self._lock = threading.Lock()
        self._active = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Counts a search and sets how many OpenMP threads this thread may use for it."""
        self._count(1)
        faiss.omp_set_num_threads(max(1, self.cpus // max(1, self._processes.searches())))
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._active += change
            self._processes.note_searches(self._slot, self._active)
