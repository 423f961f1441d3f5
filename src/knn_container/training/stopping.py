"""SIGTERM in the middle of a training job: what has been read becomes the model."""

import logging
import signal
from io import BufferedReader, FileIO
from pathlib import Path
from types import FrameType
from typing import Any

from knn_container.errors import PlatformError, ReadingStopped

log = logging.getLogger(__name__)

# SageMaker sends SIGKILL 120 seconds after SIGTERM.
_SECONDS_LEFT = 100
_BUFFER = 1 << 20


class Stopper:
    """Notes SIGTERM, ends what is being read, and gives the job 100 seconds from then.

    Attributes:
        requested: whether the signal has come.
        waiting: whether a read or an open is under way, which may wait for ever.
    """

    def __init__(self) -> None:
        self.requested = False
        self.waiting = False
        self._complete = False

    def listen(self) -> None:
        """Takes SIGTERM over; to be called in the main thread."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def complete(self) -> None:
        """Notes that the model is on disk: from now on there is no hurry."""
        self._complete = True
        signal.alarm(0)

    def open(self, path: Path) -> BufferedReader:
        """Opens a file or a pipe, which raises `ReadingStopped` in place of further bytes once SIGTERM has come."""
        return BufferedReader(_StoppableFile(self, path), _BUFFER)

    def check(self) -> None:
        """Raises ReadingStopped once SIGTERM has come."""
        if self.requested:
            raise ReadingStopped

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            return
        self.requested = True
        if self._complete:
            log.warning("SIGTERM: the model is complete; the test rows will not be scored to the end.")
        else:
            log.warning("SIGTERM: the model will be built from the rows read so far.")
            signal.alarm(_SECONDS_LEFT)
        if self.waiting:
            raise ReadingStopped

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        raise PlatformError(f"The model was not complete {_SECONDS_LEFT} seconds after SIGTERM.")


class _StoppableFile(FileIO):
    def __init__(self, stopper: Stopper, path: Path) -> None:
        self._stopper = stopper
        try:
            stopper.waiting = True
            stopper.check()
            super().__init__(path)
        finally:
            stopper.waiting = False

    def readinto(self, buffer: Any) -> int | None:
        """Reads what there is, waiting for it if need be."""
        try:
            self._stopper.waiting = True
            self._stopper.check()
            return super().readinto(buffer)
        finally:
            self._stopper.waiting = False
