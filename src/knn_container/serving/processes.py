"""What the server processes tell each other, in memory that they share."""

import mmap

_READY, _SEARCHES = 0, 1  # a byte each, for every process
_BYTES = 2


class Processes:
    """Which server processes have their model, and how many searches each has under way.

    A request reaches any of them, so that the server is ready once all are. To be made before they fork.

    Args:
        count: how many there will be.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._slots = mmap.mmap(-1, _BYTES * count)
        self._owners: dict[int, int] = {}

    def assign(self, process: int) -> int:
        """Gives a new process a slot; called before the fork, with a number of its own."""
        free = (slot for slot in range(self.count) if slot not in self._owners.values())
        slot = next(free, 0)  # gunicorn can be told to start more than were asked for
        self._owners[process] = slot
        return slot

    def free(self, process: int) -> None:
        """Takes the slot of a process that has ended."""
        slot = self._owners.pop(process)
        self._slots[_BYTES * slot : _BYTES * (slot + 1)] = bytes(_BYTES)

    def mark_ready(self, slot: int) -> None:
        """Notes that the process with this slot has its model."""
        self._slots[_BYTES * slot + _READY] = 1

    def missing(self) -> int:
        """How many processes do not have theirs."""
        return self._slots[_READY::_BYTES].count(0)

    def note_searches(self, slot: int, count: int) -> None:
        """Notes how many searches the process with this slot has under way."""
        self._slots[_BYTES * slot + _SEARCHES] = min(count, 255)

    def searches(self) -> int:
        """How many searches all processes have under way."""
        return sum(self._slots[_SEARCHES::_BYTES])
