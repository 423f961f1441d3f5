"""Whether every server process has its model."""

import mmap


class Readiness:
    """A flag for each process, in memory that they share.

    A request reaches any of them, so that the server is ready once all are. To be made before they fork.

    Args:
        processes: how many there will be.
    """

    def __init__(self, processes: int) -> None:
        self._flags = mmap.mmap(-1, processes)
        self._owners: dict[int, int] = {}

    def assign(self, process: int) -> int:
        """Gives a new process a slot; called before the fork, with a number of its own."""
        free = (slot for slot in range(len(self._flags)) if slot not in self._owners.values())
        slot = next(free, 0)  # gunicorn can be told to start more than were asked for
        self._owners[process] = slot
        return slot

    def free(self, process: int) -> None:
        """Takes the slot of a process that has ended."""
        self._flags[self._owners.pop(process)] = 0

    def mark(self, slot: int) -> None:
        """Notes that the process with this slot has its model."""
        self._flags[slot] = 1

    def missing(self) -> int:
        """How many processes do not have theirs."""
        return self._flags[:].count(0)
