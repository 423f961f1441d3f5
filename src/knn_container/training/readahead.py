"""Reads bytes in one thread while another makes rows of them."""

import threading
from contextlib import suppress
from io import BufferedReader, RawIOBase
from queue import Empty, Full, Queue
from typing import Any

_BLOCK = 1 << 20
_AHEAD = 2  # blocks that wait, beside the one being read and the one being taken
_PATIENCE = 0.1  # seconds between looks whether the reader has gone


class ReadAhead(RawIOBase):
    """A stream whose next blocks of a megabyte are read ahead; errors of reading come where their bytes would.

    Args:
        stream: to read to its end; closed then, or soon after this one is closed.
    """

    def __init__(self, stream: BufferedReader) -> None:
        super().__init__()
        self._blocks: Queue[bytes | BaseException] = Queue(_AHEAD)
        self._left = memoryview(b"")
        self._gone = threading.Event()
        threading.Thread(target=self._read, args=(stream,), name="read ahead", daemon=True).start()

    def _read(self, stream: BufferedReader) -> None:
        with stream:
            block: bytes | BaseException = b"more"
            while block and not isinstance(block, BaseException) and not self._gone.is_set():
                try:
                    block = stream.read1(_BLOCK)
                except BaseException as error:
                    block = error
                self._put(block)

    def _put(self, block: bytes | BaseException) -> None:
        while not self._gone.is_set():
            with suppress(Full):
                self._blocks.put(block, timeout=_PATIENCE)
                return

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Takes what has been read."""
        if not self._left:
            block = self._blocks.get()
            if not block or isinstance(block, BaseException):
                self._put(block)  # for whoever asks again
                if isinstance(block, BaseException):
                    raise block
                return 0
            self._left = memoryview(block)
        count = min(len(self._left), len(buffer))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        """Ends the thread, after the read that it is in."""
        self._gone.set()
        while True:
            try:
                self._blocks.get_nowait()
            except Empty:
                break
        super().close()
