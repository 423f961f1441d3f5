"""Bytes that are read in one thread and used in another."""

import io
import threading
import time
from io import BufferedReader

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knn_container.training.readahead import ReadAhead

MEGABYTE = 1 << 20


class Raw(io.RawIOBase):
    """Bytes that come `step` at a time, and maybe an error in place of the end; without bytes, zeros for ever."""

    def __init__(self, content=None, *, step=MEGABYTE, error=None):
        super().__init__()
        self._content = None if content is None else io.BytesIO(content)
        self._step = step
        self._error = error
        self.read_so_far = 0
        self.shut = threading.Event()

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(self._step, len(buffer))
        piece = bytes(size) if self._content is None else self._content.read(size)
        if not piece and self._error:
            raise self._error
        buffer[: len(piece)] = piece
        self.read_so_far += len(piece)
        return len(piece)

    def close(self):
        self.shut.set()
        super().close()


def ahead_of(raw):
    return BufferedReader(ReadAhead(BufferedReader(raw, MEGABYTE)), MEGABYTE)


def eventually(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


def no_threads():
    return not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert eventually(no_threads)


@given(content=st.binary(max_size=300), step=st.integers(1, 400), asked=st.lists(st.integers(1, 200), min_size=1))
def test_all_bytes_come_in_order_however_they_are_asked_for(content, step, asked):
    found = b""
    with ahead_of(Raw(content, step=step)) as stream:
        for size in asked:
            piece = stream.read(size)
            assert len(piece) == min(size, len(content) - len(found))
            found += piece
        assert found + stream.read() == content
        assert stream.read(1) == b""


def test_many_blocks_come_whole():
    content = np.random.default_rng(0).bytes(9 * MEGABYTE + 17)
    with ahead_of(Raw(content, step=300_001)) as stream:
        assert stream.read() == content


def test_bytes_are_given_as_soon_as_there_are_some():
    last = threading.Event()

    class Slow(Raw):
        def readinto(self, buffer):
            if self.read_so_far:
                assert last.wait(10)
            return super().readinto(buffer)

    with ahead_of(Slow(b"onetwo", step=3)) as stream:
        assert stream.read1(100) == b"one"
        last.set()
        assert stream.read() == b"two"


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("x"), EOFError("y")])
@pytest.mark.parametrize("before", [0, 10, 3 * MEGABYTE])
def test_an_error_comes_where_its_bytes_would_and_again(error, before):
    with ahead_of(Raw(bytes(before), error=error)) as stream:
        found = 0
        while found < before:
            found += len(stream.read1(MEGABYTE))
        for _ in range(3):
            with pytest.raises(type(error)) as caught:
                stream.read1(1)
            assert caught.value is error


def test_no_more_than_three_blocks_are_read_before_one_is_taken():
    raw = Raw()
    with ahead_of(raw) as stream:
        assert eventually(lambda: raw.read_so_far >= 3 * MEGABYTE)
        time.sleep(0.1)  # for it to read on, if it would
        assert raw.read_so_far == 3 * MEGABYTE
        stream.read(1)
        assert eventually(lambda: raw.read_so_far == 4 * MEGABYTE)


def test_it_is_read_ahead_while_nobody_asks():
    raw = Raw(b"x" * 10)
    with ahead_of(raw):
        assert eventually(raw.shut.is_set), "the stream is closed at its end, not when the reader is done"


@pytest.mark.parametrize("used", [0, 1, 5 * MEGABYTE])
def test_whoever_leaves_early_has_the_stream_closed(used):
    raw = Raw()
    with ahead_of(raw) as stream:
        stream.read(used)
    assert raw.shut.wait(10)
    assert eventually(no_threads)


def test_closing_does_not_wait_for_a_read_that_waits():
    come = threading.Event()

    class Silent(Raw):
        def readinto(self, buffer):
            come.wait(30)
            return 0

    raw = Silent()
    began = time.monotonic()
    ahead_of(raw).close()
    assert time.monotonic() - began < 5
    assert not raw.shut.is_set()
    come.set()
    assert raw.shut.wait(10)
