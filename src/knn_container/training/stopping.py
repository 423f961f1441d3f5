"""SIGTERM in the middle of a training job: what has been read becomes the model."""

import logging
import os
import select
import signal
import threading
import weakref
from io import BufferedReader, FileIO
from pathlib import Path
from types import FrameType
from typing import Any

from knn_container.errors import PlatformError, ReadingStopped, TrainingError

log = logging.getLogger(__name__)

# SageMaker sends SIGKILL 120 seconds after SIGTERM.
_SECONDS_LEFT = 100
_BUFFER = 1 << 20


class Stopper:
    """Notes SIGTERM, ends what is being read in any thread, and gives the job 100 seconds from then.

    Attributes:
        requested: whether reading is to stop.
    """

    def __init__(self) -> None:
        self.requested = False
        self._complete = False
        self._failure: TrainingError | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)  # readable once reading is to stop
        weakref.finalize(self, os.close, self._wake)

    def listen(self) -> None:
        """Takes SIGTERM over; to be called in the main thread."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def complete(self) -> None:
        """Notes that the model is on disk: from now on there is no hurry."""
        self._complete = True
        signal.alarm(0)

    def request(self) -> None:
        """Ends what is being read."""
        self.requested = True
        os.eventfd_write(self._wake, 1)

    def fail(self, error: TrainingError) -> None:
        """Raises an error in the main thread, whatever it is doing; for other threads, after `listen`.

        A second one changes nothing: it would interrupt what the first has the main thread tidy up.
        """
        if self._failure:
            return
        self._failure = error
        self.request()
        if (main := threading.main_thread().ident) is not None:
            signal.pthread_kill(main, signal.SIGALRM)

    def open(self, path: Path) -> BufferedReader:
        """Opens a file or a pipe, which raises `ReadingStopped` in place of further bytes once reading is to stop."""
        return BufferedReader(_StoppableFile(self, path), _BUFFER)

    def check(self) -> None:
        """Raises ReadingStopped once reading is to stop."""
        if self.requested:
            raise ReadingStopped

    def wait(self, seconds: float) -> None:
        """Waits, but not after reading is to stop: then it raises ReadingStopped."""
        select.select([self._wake], [], [], seconds)
        self.check()

    def await_bytes(self, file: int) -> None:
        """Waits until a file, by its descriptor, has something to read or is at its end.

        Raises:
            ReadingStopped: reading is to stop.
        """
        ready = select.poll()
        ready.register(file, select.POLLIN)
        ready.register(self._wake, select.POLLIN)
        ready.poll()
        self.check()

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            return
        if self._complete:
            log.warning("SIGTERM: the model is complete; the test rows will not be scored to the end.")
        else:
            log.warning("SIGTERM: the model will be built from the rows read so far.")
            signal.alarm(_SECONDS_LEFT)
        self.request()

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        raise self._failure or PlatformError(f"The model was not complete {_SECONDS_LEFT} seconds after SIGTERM.")


class _StoppableFile(FileIO):
    def __init__(self, stopper: Stopper, path: Path) -> None:
        self._stopper = stopper
        stopper.check()
        # A pipe without a writer is opened at once: `readinto` then waits for the writer as for its bytes.
        super().__init__(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))

    def readinto(self, buffer: Any) -> int | None:
        """Reads what there is, waiting for it if need be."""
        while True:
            self._stopper.await_bytes(self.fileno())
            if (count := super().readinto(buffer)) is not None:
                return count
