"""SIGTERM in the middle of a training job: what has been read becomes the model."""

import logging
import signal
from collections.abc import Iterator
from types import FrameType
from typing import TypeVar

from knn_container.errors import PlatformError

log = logging.getLogger(__name__)

Item = TypeVar("Item")

# SageMaker sends SIGKILL 120 seconds after SIGTERM.
_SECONDS_LEFT = 100


class _StopWaiting(Exception):  # noqa: N818 (control flow, not an error)
    """Leaves a read that may wait for ever."""


class Stopper:
    """Notes SIGTERM, and gives the job 100 seconds from then.

    Attributes:
        requested: whether the signal has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._reading = False

    def listen(self) -> None:
        """Takes SIGTERM over; to be called in the main thread."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def next_of(self, items: Iterator[Item]) -> Item | None:
        """Takes the next item; None at the end and once SIGTERM has come, which ends a wait for it."""
        try:
            try:
                self._reading = True
                return None if self.requested else next(items, None)
            finally:
                self._reading = False
        except _StopWaiting:
            return None

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            return
        self.requested = True
        log.warning("SIGTERM: the model will be built from the rows read so far.")
        signal.alarm(_SECONDS_LEFT)
        if self._reading:
            raise _StopWaiting

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        raise PlatformError(f"The model was not complete {_SECONDS_LEFT} seconds after SIGTERM.")
