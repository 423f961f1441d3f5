"""Reading that SIGTERM ends, in this process."""

import io
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from knn_container.batch import dense
from knn_container.errors import PlatformError, ReadingStopped
from knn_container.formats import csv, recordio
from knn_container.training.channels import open_channel
from knn_container.training.stopping import Stopper

ROWS = np.arange(36, dtype=np.float32).reshape(12, 3)
LABELS = np.arange(12, dtype=np.float32)
CSV = b"".join(b"%d,%d,%d,%d\n" % (label, *row) for label, row in zip(LABELS, ROWS, strict=True))
RECORDIO = recordio.encode(ROWS, LABELS)


@pytest.fixture
def stop():
    """A stopper that listens, until the test is over."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    stopper = Stopper()
    stopper.listen()
    yield stopper
    signal.alarm(0)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def terminate_soon():
    """Sends SIGTERM while the test waits."""
    timer = threading.Timer(0.2, terminate)
    timer.start()
    yield
    timer.join()


class Interrupted(io.RawIOBase):
    """A stream that is stopped after some bytes, which come `step` at a time."""

    def __init__(self, content, step):
        super().__init__()
        self._content = io.BytesIO(content)
        self._step = step

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self._content.read(min(self._step, len(buffer)))
        if not piece:
            raise ReadingStopped
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("step", [1, 7, 10**6])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
@pytest.mark.parametrize(
    ("read", "content"), [(csv.read_batches, CSV), (recordio.read_batches, RECORDIO)], ids=["csv", "recordio"]
)
def test_wherever_reading_is_stopped_the_whole_rows_before_are_given(read, content, batch_size, step):
    size = len(content) // 12
    ends = [position + 1 for position, byte in enumerate(CSV) if byte == ord("\n")]
    if content is RECORDIO:
        assert len(content) == 12 * size
        ends = [size * number for number in range(1, 13)]
    for cut in range(len(content) + 1):
        stream = io.BufferedReader(Interrupted(content[:cut], step))
        batches = list(read(stream, batch_size, None))
        whole = sum(end <= cut for end in ends)
        assert sum(map(len, batches)) == whole
        if whole:
            np.testing.assert_array_equal(np.concatenate([dense(batch.features) for batch in batches]), ROWS[:whole])
            np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), LABELS[:whole])


def test_without_a_signal_a_file_is_read_to_its_end(stop, tmp_path):
    (tmp_path / "rows").write_bytes(CSV)
    with stop.open(tmp_path / "rows") as stream:
        assert stream.read() == CSV
    assert not stop.requested


def test_after_the_signal_no_file_is_opened_and_none_is_read_further(stop, tmp_path):
    (tmp_path / "large").write_bytes(bytes(5 << 20))
    with stop.open(tmp_path / "large") as stream:
        stream.read(10)
        terminate()
        assert stop.requested
        with pytest.raises(ReadingStopped):
            stream.read(4 << 20)
    with pytest.raises(ReadingStopped):
        stop.open(tmp_path / "large")
    with pytest.raises(ReadingStopped):
        stop.check()


@pytest.mark.usefixtures("terminate_soon")
def test_waiting_for_bytes_of_a_pipe_ends_with_the_signal(stop, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        writer = pool.submit((tmp_path / "pipe").open, "wb")
        with stop.open(tmp_path / "pipe") as stream, writer.result(), pytest.raises(ReadingStopped):
            stream.read(1)


@pytest.mark.usefixtures("terminate_soon")
def test_waiting_for_the_writer_of_a_pipe_ends_with_the_signal(stop, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with stop.open(tmp_path / "pipe") as stream, pytest.raises(ReadingStopped):
        stream.read(1)


@pytest.mark.usefixtures("terminate_soon")
def test_waiting_for_a_pipe_that_is_not_there_ends_with_the_signal(stop, tmp_path):
    channel = open_channel("train", {"TrainingInputMode": "Pipe"}, tmp_path / "train", stop.open)
    began = time.monotonic()
    with pytest.raises(ReadingStopped):
        next(channel.batches("train_0", 10, None))
    assert time.monotonic() - began < 5


def test_files_that_can_be_looked_into_no_more_are_listed_all_the_same(stop, tmp_path):
    (tmp_path / "rows").write_bytes(CSV)
    channel = open_channel("train", {"ContentType": "text/csv"}, tmp_path, stop.open)
    (marked,) = channel.files(marked=True)
    terminate()
    (unmarked,) = channel.files(marked=True)
    assert (marked.path, marked.size) == (unmarked.path, unmarked.size) == ("rows", len(CSV))
    assert (len(marked.mark), unmarked.mark) == (32, "")


def test_the_job_has_100_seconds_from_the_first_signal(stop):
    terminate()
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    assert 99 < left <= 100
    signal.setitimer(signal.ITIMER_REAL, 50)
    terminate()  # the platform's second word changes nothing
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    assert 49 < left <= 50


def test_a_job_that_outlasts_them_is_the_platforms_failure(stop):
    terminate()
    with pytest.raises(PlatformError, match="100 seconds after SIGTERM"):
        os.kill(os.getpid(), signal.SIGALRM)


def test_a_signal_between_two_reads_interrupts_no_work(stop, tmp_path):
    (tmp_path / "rows").write_bytes(CSV)
    channel = open_channel("train", {"ContentType": "text/csv"}, tmp_path, stop.open)
    batches = channel.batches("rows", 5, None)
    given = len(next(batches))
    terminate()
    with suppress(ReadingStopped):
        given += sum(map(len, batches))
    # The file is shorter than what is read at once, so all of its rows had been read when the signal came.
    assert given == 12


def test_a_failure_elsewhere_ends_what_the_main_thread_waits_for(stop):
    failure = PlatformError("The host algo-2 was lost")
    threading.Timer(0.05, stop.fail, [failure]).start()
    with pytest.raises(PlatformError) as caught:
        threading.Event().wait(10)
    assert caught.value is failure
    assert stop.requested


def test_a_second_failure_interrupts_nothing(stop):
    first, done = PlatformError("The host algo-2 was lost"), []
    with pytest.raises(PlatformError) as caught:
        stop.fail(first)
    stop.fail(PlatformError("The host algo-3 was lost"))
    done.append("the hosts left have been told")
    assert caught.value is first
    assert done
