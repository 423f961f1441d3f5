"""Reads bytes in one thread while another makes rows of them."""

import threading
from io import BufferedReader, RawIOBase
from queue import SimpleQueue
from typing import Any

import numpy as np

_BLOCK = 1 << 20
_BLOCKS = 3  # the one being read, one that waits, and the one being taken


class ReadAhead(RawIOBase):
    """A stream whose next blocks of a megabyte are read ahead; errors of reading come where their bytes would.

    Args:
        stream: to read to its end; closed then, or soon after this one is closed.
    """

    def __init__(self, stream: BufferedReader) -> None:
        super().__init__()
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(_BLOCKS):
            self._free.put(np.empty(_BLOCK, np.uint8).data)  # takes no memory before it is used
        self._filled: SimpleQueue[tuple[memoryview, int] | BaseException] = SimpleQueue()
        self._block, self._place, self._end = memoryview(b""), 0, 0  # what is being taken
        self._gone = threading.Event()
        threading.Thread(target=self._read, args=(stream,), name="read ahead", daemon=True).start()

    def _read(self, stream: BufferedReader) -> None:
        with stream:
            count = -1
            while count and not self._gone.is_set():
                block = self._free.get()
                try:
                    count = 0 if self._gone.is_set() else stream.readinto1(block)
                except BaseException as error:
                    self._filled.put(error)
                    return
                self._filled.put((block, count))

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Takes what has been read."""
        if self._place == self._end:
            filled = self._filled.get()
            if isinstance(filled, BaseException) or not filled[1]:
                self._filled.put(filled)  # for whoever asks again
                if isinstance(filled, BaseException):
                    raise filled
                return 0
            (self._block, self._end), self._place = filled, 0
        count = min(self._end - self._place, len(buffer))
        buffer[:count] = self._block[self._place : self._place + count]
        self._place += count
        if self._place == self._end:
            self._free.put(self._block)
        return count

    def close(self) -> None:
        """Ends the thread, after the read that it is in."""
        if not self._gone.is_set():
            self._gone.set()
            self._free.put(memoryview(b""))
        super().close()
