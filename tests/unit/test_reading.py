"""Files read side by side."""

import threading
import time
import weakref
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knn_container import cpu
from knn_container.batch import Batch
from knn_container.errors import ReadingStopped, UserError
from knn_container.training.division import Piece
from knn_container.training.reading import read


def rows_of(file, start, count):
    """Rows that hold the file's number and their own."""
    numbers = np.arange(start, start + count)
    return Batch(np.stack([np.full(count, file), numbers], axis=1).astype(np.float32), numbers.astype(np.float32))


class Files:
    """A channel whose files have so many rows; what a test wants to happen, happens before a batch is made.

    Attributes:
        asked: (path, rows in a batch, width), as files were begun.
        threads: that may parse a file.
        closed: the files whose reading has ended, by whatever.
        before: called with a file's name and the number of its next row.
        uneven: whether batches have fewer rows than they may, as where rows are wide.
    """

    def __init__(self, sizes, before=lambda path, start: None, *, uneven=False):
        self.sizes = {str(file): rows for file, rows in enumerate(sizes)}
        self.asked = []
        self.threads = set()
        self.closed = []
        self.before = before
        self.uneven = uneven

    def batches(self, path, rows, width, threads=1):
        self.asked.append((path, rows, width))
        self.threads.add(threads)
        try:
            start = 0
            while start < self.sizes[path]:
                self.before(path, start)
                most = max(1, rows - start % 3) if self.uneven else rows
                yield rows_of(int(path), start, min(most, self.sizes[path] - start))
                start += most
            self.before(path, self.sizes[path])
        finally:
            self.closed.append(path)

    def pieces(self):
        return [Piece(path, 0, path) for path in self.sizes]


def given_by(reading):
    """What was read, as (file, row) in order; each batch has to be where it says."""
    found = []
    for piece, start, batch in reading:
        assert batch.features[:, 0].tolist() == [int(piece.path)] * len(batch)
        assert batch.features[:, 1].tolist() == list(range(start, start + len(batch)))
        found += [(int(piece.path), start + row) for row in range(len(batch))]
    return found


def every(sizes):
    return [(file, row) for file, rows in enumerate(sizes) for row in range(rows)]


def eventually(condition):
    """Whether something comes true within seconds."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


def no_readers():
    return not [thread for thread in threading.enumerate() if thread.name.startswith("reader ")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert eventually(no_readers), threading.enumerate()


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    readers=st.integers(0, 9),
    batch_size=st.integers(1, 50),
    uneven=st.booleans(),
)
def test_every_row_is_read_once_whatever_the_number_of_readers(sizes, readers, batch_size, uneven):
    channel = Files(sizes, uneven=uneven)
    found = given_by(read(channel, channel.pieces(), batch_size, None, readers))
    assert sorted(found) == every(sizes)
    for file in range(len(sizes)):  # a file's rows come in their order
        assert [row for it, row in found if it == file] == list(range(sizes[file]))
    assert sorted(channel.closed) == sorted(channel.sizes)


def test_one_reader_gives_the_files_one_after_another():
    sizes = (0, 7, 0, 3, 9)
    channel = Files(sizes)
    assert given_by(read(channel, channel.pieces(), 4, None, 1)) == every(sizes)
    assert {rows for _, rows, _ in channel.asked} == {4}


@pytest.mark.parametrize(
    ("batch_size", "readers", "files", "rows"), [(100, 4, 9, 25), (10, 3, 9, 3), (100, 8, 2, 50), (3, 8, 9, 1)]
)
def test_readers_share_a_batch(batch_size, readers, files, rows):
    channel = Files([10] * files)
    given_by(read(channel, channel.pieces(), batch_size, None, readers))
    assert {it for _, it, _ in channel.asked} == {rows}


@pytest.mark.parametrize(("width", "of_the_others"), [(None, 2), (5, 2)])
def test_the_first_row_says_how_wide_the_rows_of_all_other_files_must_be(width, of_the_others):
    channel = Files([0, 3, 3, 3])
    given_by(read(channel, channel.pieces(), 10, width, 2))
    widths = {path: asked for path, _, asked in channel.asked}
    assert widths == {"0": width, "1": width, "2": of_the_others, "3": of_the_others}


def test_without_pieces_or_rows_there_is_nothing():
    assert given_by(read(Files([]), [], 10, None, 4)) == []
    channel = Files([0, 0, 0])
    assert given_by(read(channel, channel.pieces(), 10, None, 4)) == []


@given(rows=st.integers(0, 60), turns=st.integers(1, 5), batch_size=st.integers(1, 20))
def test_hosts_that_take_turns_share_a_stream(rows, turns, batch_size):
    parts = [
        given_by(read(Files([rows]), [Piece("0", 0, "0", turn, turns)], batch_size, None, 8)) for turn in range(turns)
    ]
    assert sorted(row for part in parts for row in part) == every([rows])
    for turn, part in enumerate(parts):
        assert all(row // batch_size % turns == turn for _, row in part)


def test_files_are_read_at_the_same_time():
    both = threading.Barrier(2, timeout=10)  # breaks unless two readers are between their first rows and their ends
    channel = Files([4, 4], before=lambda path, start: both.wait() if start == 4 else None)
    assert sorted(given_by(read(channel, channel.pieces(), 4, None, 2))) == every([4, 4])


@pytest.mark.parametrize("readers", [1, 2, 4])
def test_an_error_is_raised_and_all_readers_stop(readers):
    def before(path, start):
        if path == "1" and start >= 30:
            raise UserError("a row of file 1")

    channel = Files([10**9 if readers > 1 else 10, 10**9, 10**9, 10**9, 10**9], before)
    with pytest.raises(UserError, match="a row of file 1"):
        given_by(read(channel, channel.pieces(), 20, None, readers))
    assert eventually(no_readers)
    assert eventually(lambda: sorted(channel.closed) == sorted(path for path, _, _ in channel.asked))
    assert len(channel.asked) <= max(2, readers)


def test_what_was_read_before_an_error_is_given_first():
    def before(path, start):
        if start == 8:
            raise UserError("file 0")

    channel = Files([100], before)
    reading = read(channel, channel.pieces(), 2, None, 1)
    assert [next(reading)[1] for _ in range(4)] == [0, 2, 4, 6]
    with pytest.raises(UserError):
        next(reading)


@pytest.mark.parametrize(("readers", "files"), [(1, 1), (1, 3), (2, 2), (3, 5), (4, 4)])
def test_no_more_rows_than_those_of_two_batches_are_in_memory(readers, files):
    batch_size, lock = 12, threading.Lock()
    made, used, held = [], [], []  # held: at any moment in which a batch was made

    def before(path, start):
        with lock:
            made.append(start)
            held.append(len(made) - len(used))

    channel = Files([10**9] * files, before)
    most = 2 * readers
    assert most * (batch_size // readers) == 2 * batch_size
    with closing(read(channel, channel.pieces(), batch_size, None, readers)) as reading:
        for number in range(30):
            next(reading)
            if number:  # readers are faster than whoever uses the rows: they come to their limit
                assert eventually(lambda: held[-1] >= most)
            with lock:
                used.append(number)
        time.sleep(0.05)  # time to pass it
    assert max(held) == most


@pytest.mark.parametrize("readers", [1, 2])
def test_the_first_batch_goes_when_it_has_been_used(readers):
    channel = Files([100, 100])
    with closing(read(channel, channel.pieces(), 10, None, readers)) as reading:
        first = weakref.ref(next(reading)[2])
        for _ in range(12):
            next(reading)
        assert first() is None


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_reading_that_is_stopped_ends_quietly_with_the_rows_before(readers):
    stopped = threading.Event()

    def before(path, start):
        if stopped.is_set():
            raise ReadingStopped

    channel = Files([50, 50, 50, 50], before)
    with closing(read(channel, channel.pieces(), 6, None, readers)) as reading:
        found = given_by([next(reading)])
        stopped.set()
        found += given_by(reading)
    assert 1 <= len(found) <= 1 + 2 * 6
    assert len(set(found)) == len(found)


def test_a_stop_before_the_first_row_gives_none():
    def before(path, start):
        raise ReadingStopped

    channel = Files([50, 50], before)
    assert given_by(read(channel, channel.pieces(), 10, None, 2)) == []


def test_a_reader_that_stops_first_takes_no_rows_from_the_others():
    # One file ends at the signal and the next cannot be opened; the other file gives, a little later, what it has.
    refused = threading.Event()

    def before(path, start):
        if path == "2":
            refused.set()
            raise ReadingStopped
        if (path, start) == ("0", 4):
            assert refused.wait(10)
            time.sleep(0.05)  # for the other reader's last word

    channel = Files([7, 4, 4], before)
    assert sorted(given_by(read(channel, channel.pieces(), 8, None, 2))) == every([7, 4])


@pytest.mark.parametrize("used", [0, 1, 2, 5])
@pytest.mark.parametrize("readers", [1, 3])
def test_whoever_leaves_early_leaves_no_reader_and_no_file_open(readers, used):
    channel = Files([10**9] * 6)
    reading = read(channel, channel.pieces(), 9, None, readers)
    for _ in range(used):
        next(reading)
    reading.close()
    assert eventually(no_readers)
    assert eventually(lambda: len(channel.closed) == len(channel.asked))


@pytest.mark.parametrize(("files", "threads"), [(1, {4}), (2, {2}), (3, {1}), (5, {1}), (0, set())])
def test_where_there_are_more_cpus_than_files_several_threads_parse_each(monkeypatch, files, threads):
    monkeypatch.setattr(cpu, "budget", lambda: 4)
    channel = Files([10] * files)
    assert sum(len(batch) for _, _, batch in read(channel, channel.pieces(), 8, None, 8)) == 10 * files
    assert channel.threads == threads
