"""Reads files side by side, in little memory."""

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain
from queue import SimpleQueue

from knn_container import cpu
from knn_container.batch import Batch
from knn_container.errors import ReadingStopped
from knn_container.training.channels import Channel
from knn_container.training.division import Piece

Read = tuple[Piece, int, Batch]  # where a batch comes from, its first row's number in the file, and the batch
Stream = Generator[Read, None, None]


def read(channel: Channel, pieces: Sequence[Piece], batch_size: int, width: int | None, readers: int) -> Iterator[Read]:
    """Reads pieces of a channel while the caller uses what has been read; ends early where reading is to stop.

    No more rows are in memory than those of two batches of `batch_size`, whatever the number of readers.

    Args:
        channel: whose files they are.
        pieces: which.
        batch_size: rows in a batch of a single reader; of n readers each has batches of an nth.
        width: features in a row; None takes the first row's.
        readers: threads that read, each a file at a time; where there are CPUs for more, several parse a file of CSV.

    Raises:
        UserError: as `Channel.batches`; what other readers have read is dropped.
    """
    threads = max(1, min(readers, cpu.budget()) // max(1, len(pieces)))
    readers = max(1, min(readers, len(pieces), batch_size))
    rows = batch_size // readers
    try:
        # The first row of all says how wide the rows of the other files must be.
        for begun, piece in enumerate(pieces, 1):
            stream = _stream(channel, piece, rows, width, threads)
            if first := next(stream, None):
                yield first
                width = first[2].features.shape[1]
                del first
                others = (_stream(channel, it, rows, width, threads) for it in pieces[begun:])
                yield from _side_by_side(chain([stream], others), readers)
                return
    except ReadingStopped:
        return


def _stream(channel: Channel, piece: Piece, rows: int, width: int | None, threads: int) -> Stream:
    start = 0
    for batch in channel.batches(piece.path, rows, width, threads):
        for first, part in _turns(piece, batch, start, rows):
            yield piece, first, part
        start += len(batch)


def _turns(piece: Piece, batch: Batch, start: int, rows: int) -> Iterator[tuple[int, Batch]]:
    """The parts of a batch that are this host's, of `rows` rows at most, with the numbers of their first rows."""
    if piece.turns == 1:
        yield start, batch
        return
    place = 0
    while place < len(batch):
        number = start + place
        end = min(len(batch), place + rows - number % rows)
        if number // rows % piece.turns == piece.turn:
            yield number, batch.part(place, end)
        place = end


def _side_by_side(streams: Iterator[Stream], readers: int) -> Iterator[Read]:
    """Gives what the streams give, in any order; each reader takes the next stream when it has ended one."""
    ready: SimpleQueue[Read | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(2 * readers)
    taking, over = threading.Lock(), threading.Event()

    def next_stream() -> Stream | None:
        with taking:
            return next(streams, None)

    def work() -> None:
        try:
            while not over.is_set() and (stream := next_stream()):
                with closing(stream):
                    while room.acquire() and not over.is_set() and (item := next(stream, None)):
                        ready.put(item)
                room.release()
        except ReadingStopped:
            pass  # the others have read rows too
        except BaseException as error:
            ready.put(error)
        finally:
            ready.put(None)

    for number in range(readers):
        threading.Thread(target=work, name=f"reader {number}", daemon=True).start()
    try:
        while readers:
            item = ready.get()
            if item is None:
                readers -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
                room.release()
    finally:
        over.set()
        room.release(readers + 1)
