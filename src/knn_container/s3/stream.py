"""An object as a stream: in order, without seeking, in little memory."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import closing
from io import RawIOBase
from typing import Any, TypeVar

from knn_container.errors import PlatformError
from knn_container.s3.client import explained
from knn_container.s3.location import Object

PART_SIZE = 8 << 20
PARTS = 4

_CHUNK = 1 << 18
_FAILURES = 6  # bodies in a row that break off before their first byte
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0  # seconds
_PATIENCE = 0.1  # seconds between two checks

Item = TypeVar("Item")
Result = TypeVar("Result")
Check = Callable[[], None]


def go_on() -> None:
    """The check that lets everything go on."""


class Room:
    """The memory that streams share: each has room for one part, and all together for some more.

    So at most (`parts` + streams) * `part_size` bytes are in memory: 32 MiB and 8 MiB a stream, unless told
    otherwise.

    Args:
        part_size: bytes of a part, which one request fetches.
        parts: how many there may be beside each stream's first.
    """

    def __init__(self, part_size: int = PART_SIZE, parts: int = PARTS) -> None:
        self.part_size = part_size
        self._free = threading.Semaphore(parts)

    def take(self) -> bool:
        """Takes room for a part, if there is any."""
        return self._free.acquire(blocking=False)

    def give(self) -> None:
        """Gives it back."""
        self._free.release()


class ObjectStream(RawIOBase):
    """Reads an object from its beginning, in parts that are fetched ahead side by side.

    A part whose connection breaks is resumed where it broke. All parts are of the object that was listed: one that is
    written to in between is an error.

    Args:
        client: boto3's.
        source: the object.
        room: for the parts.
        check: called again and again while a part is awaited, from the thread that reads; what it raises is raised.

    Raises:
        UserError: by `readinto`, the object has changed or cannot be read.
        PlatformError: by `readinto`, it breaks off again and again.
    """

    def __init__(self, client: Any, source: Object, room: Room, check: Check = go_on) -> None:
        super().__init__()
        self._client, self._source, self._room, self._check = client, source, room, check
        self._parts: deque[tuple[Future[memoryview], bool]] = deque()  # with whether room was taken
        self._begun = 0
        self._left = memoryview(b"")
        self._holds = False  # whether room was taken for what is left
        self._over = threading.Event()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Waits for the next bytes."""
        self._check()
        if not self._left and not self._next():
            return 0
        count = min(len(self._left), len(buffer))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _next(self) -> bool:
        """Waits for the next part; False at the end."""
        self._drop()
        self._begin()
        if not self._parts:
            return False
        part, self._holds = self._parts.popleft()
        try:
            self._left = result(part, self._check)
        except BaseException:
            self.close()
            raise
        return True

    def _begin(self) -> None:
        """Begins to fetch as many parts as there is room for, and at least one."""
        while self._begun < self._source.size:
            taken = self._room.take()
            if not taken and self._parts:
                return
            start, self._begun = self._begun, min(self._begun + self._room.part_size, self._source.size)
            work = background(fetch, self._client, self._source, start, self._begun, self._over)
            self._parts.append((work, taken))

    def _drop(self) -> None:
        """Forgets the part that has been read."""
        self._left = memoryview(b"")
        if self._holds:
            self._holds = False
            self._room.give()

    def close(self) -> None:
        """Ends the fetching, soon: with the chunk that each part waits for."""
        self._over.set()
        self._drop()
        while self._parts:
            part, taken = self._parts.popleft()
            if taken:
                part.add_done_callback(lambda _: self._room.give())
        super().close()


def fetch(client: Any, source: Object, start: int, stop: int, over: threading.Event) -> memoryview:
    """Fetches the bytes of an object from `start` to before `stop`.

    botocore retries the request, but not a body that breaks off: that is asked for again from where it broke.

    Args:
        client: boto3's.
        source: the object.
        start: the first byte.
        stop: the byte behind the last one.
        over: set once nobody waits for them.

    Raises:
        UserError: the object has changed or cannot be read.
        PlatformError: the body breaks off again and again.
    """
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    part, have, failures = memoryview(bytearray(stop - start)), 0, 0
    while have < len(part):
        before, reason = have, "the connection was closed"
        try:
            with closing(_body(client, source, start + have, stop)) as body:
                while (chunk := body.read(_CHUNK)) and not over.is_set():
                    part[have : have + len(chunk)] = chunk
                    have += len(chunk)
        except (BotoCoreError, HTTPError, OSError) as error:
            reason = str(error)
        if over.is_set():
            break
        failures = 0 if have > before else failures + 1
        if failures == _FAILURES:
            raise PlatformError(
                f"{source.location} breaks off at byte {start + have} of {source.size}, {_FAILURES} times in a row: "
                f"{reason}. Check the network, and try again."
            )
        if have < len(part):
            over.wait(min(_FIRST_DELAY * 2**failures, _LONGEST_DELAY))
    return part.toreadonly()


def _body(client: Any, source: Object, start: int, stop: int) -> Any:
    condition = {"IfMatch": source.etag} if source.etag else {}
    with explained(source.location):
        answer = client.get_object(
            Bucket=source.location.bucket, Key=source.location.key, Range=f"bytes={start}-{stop - 1}", **condition
        )
    if (came := answer["ContentLength"]) != stop - start:
        answer["Body"].close()
        raise PlatformError(
            f"{source.location}: expected the {stop - start} bytes of a range, {came} came. "
            "The store must answer requests with a Range."
        )
    return answer["Body"]


def background(work: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Calls something in a thread that does not keep the process from ending, however long S3 takes."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="s3", daemon=True).start()
    return future


def result(future: Future[Result], check: Check) -> Result:
    """Waits for what `background` has begun, unless the check raises something."""
    while not future.done():
        wait([future], _PATIENCE)
        check()
    return future.result()


def side_by_side(work: Callable[[Item], Result], items: Iterator[Item], width: int, check: Check) -> Iterator[Result]:
    """Does something with each item, `width` at a time; the results are in the order of the items."""
    begun: deque[Future[Result]] = deque()
    for item in items:
        begun.append(background(work, item))
        if len(begun) == width:
            yield result(begun.popleft(), check)
    while begun:
        yield result(begun.popleft(), check)
