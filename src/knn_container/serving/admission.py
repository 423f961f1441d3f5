"""How much may wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from knn_container.errors import RequestError


class Place:
    """A request that was let in.

    Args:
        admission: let it in.
    """

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.bytes = 0

    def take(self, size: int) -> None:
        """Counts so many bytes more of its body, before or as they are read.

        Raises:
            RequestError: 503, the bodies of all requests would be too large.
        """
        self._admission.take(self, size)


class Admission:
    """Bounds the requests that wait, in number and in bytes; safe to use from several threads at once.

    Args:
        requests: so many at once.
        size: bytes of all bodies together; one alone may be larger.
    """

    def __init__(self, requests: int, size: int) -> None:
        self._requests = requests
        self._size = size
        self._lock = threading.Lock()
        self._inside = 0
        self._bytes = 0

    @contextmanager
    def admit(self) -> Iterator[Place]:
        """Lets a request in until the context ends.

        Raises:
            RequestError: 503, there are too many.
        """
        with self._lock:
            if self._inside >= self._requests:
                raise RequestError(503, f"{self._requests} requests are under way. Try again later.")
            self._inside += 1
        place = Place(self)
        try:
            yield place
        finally:
            with self._lock:
                self._inside -= 1
                self._bytes -= place.bytes

    def take(self, place: Place, size: int) -> None:
        """As `Place.take`."""
        with self._lock:
            if self._bytes > place.bytes and self._bytes + size > self._size:
                raise RequestError(503, f"Bodies of {self._bytes} bytes are under way. Try again later.")
            place.bytes += size
            self._bytes += size
