"""Frames taken as tables are the records that are read one by one."""

import io
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knn_container.errors import FormatError, ReadingStopped
from knn_container.formats import framing
from knn_container.formats.framing import Frames, read_payloads

MAGIC = 0xCED7230A
HEADER = 8


def frame(payload, flag=0):
    return struct.pack("<II", MAGIC, flag << 29 | len(payload)) + payload + bytes(-len(payload) % 4)


def in_parts(payload, parts):
    """A record as a writer that found the magic in it cuts it: between the parts the magic is put back."""
    pieces = [payload] * parts
    flags = [1, *[2] * (parts - 2), 3] if parts > 1 else [0]
    return b"".join(map(frame, pieces, flags)), struct.pack("<I", MAGIC).join(pieces)


# Runs of records of one length, as files have them, and records of any other.
RUNS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), max_size=6)


@st.composite
def records(draw):
    """Records as they are framed, and as they are."""
    whole, payloads, number = [], [], 0
    for length, count in draw(RUNS):
        parts = draw(st.sampled_from([1, 1, 1, 1, 2, 3]))
        for _ in range(count):
            number += 1
            # Every record is another; some hold the magic itself, uncut.
            payload = (struct.pack("<HI", number, MAGIC) * 7)[:length].ljust(length, b"x")
            framed, joined = in_parts(payload, parts)
            whole.append(framed)
            payloads.append(joined)
    return whole, payloads


class Raw(io.RawIOBase):
    """Bytes that come `step` at a time and then end, or are stopped."""

    def __init__(self, content, step, *, stopped=False):
        super().__init__()
        self._content = io.BytesIO(content)
        self._step = step
        self._stopped = stopped

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self._content.read(min(self._step, len(buffer)))
        if not piece and self._stopped:
            raise ReadingStopped
        buffer[: len(piece)] = piece
        return len(piece)


def stream(content, step=10**6, **options):
    return io.BufferedReader(Raw(content, step, **options), 64)


def take(frames, count):
    found = list(frames.take(count))
    assert len(found) <= count
    return found


def take_all(frames, count):
    found = []
    while some := take(frames, count):
        found += some
    return found


def until_error(records):
    """Records, and the text and the row of the error that ends them; None for a good end."""
    found = []
    try:
        for record in records:
            found.append(record)
    except FormatError as error:
        return found, (str(error), error.row)
    return found, None


def one_by_one(content):
    return until_error(read_payloads(io.BytesIO(content)))


def together(frames, count):
    return until_error(record for some in iter(lambda: take(frames, count), []) for record in some)


@given(content=records(), count=st.integers(1, 100), step=st.integers(1, 300))
def test_the_records_are_those_that_were_framed(content, count, step):
    whole, payloads = b"".join(content[0]), content[1]
    assert take_all(Frames(stream(whole, step)), count) == payloads == one_by_one(whole)[0]


@given(content=records(), count=st.integers(1, 100), limit=st.integers(1, 400))
def test_no_more_is_taken_together_than_the_limit_or_one_record(content, count, limit):
    whole, payloads = b"".join(content[0]), content[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "LARGEST_BLOCK", limit)
        frames, found = Frames(stream(whole)), []
        while some := take(frames, count):
            found += some
            assert len(some) == 1 or sum(map(len, some[:-1])) < limit
    assert found == payloads


def test_what_is_taken_is_within_the_limit_with_its_headers():
    frames = Frames(stream(frame(bytes(1000)) * 10_000))
    assert [len(frames.take(10_000)) for _ in range(3)] == [(4 << 20) // 1008, (4 << 20) // 1008, 10_000 - 8322]


@given(content=records(), count=st.integers(1, 100), cut=st.floats(0, 1), step=st.integers(1, 300))
def test_an_end_in_mid_record_is_told_as_one_by_one(content, count, cut, step):
    whole = b"".join(content[0])
    whole = whole[: round(cut * len(whole))]
    expected, error = one_by_one(whole)
    found, told = together(Frames(stream(whole, step)), count)
    assert told == error
    assert found == expected[: len(found)]
    # Of the records that would have come together with the one at fault, none comes.
    assert len(expected) - len(found) < (count if error else 1)


@given(content=records(), count=st.integers(1, 100), at=st.floats(0, 1), damage=st.binary(min_size=8, max_size=8))
def test_a_damaged_header_is_told_as_one_by_one(content, count, at, damage):
    whole = bytearray(b"".join(content[0]))
    place = round(at * len(whole)) // 4 * 4
    whole[place : place + HEADER] = damage[: len(whole) - place]
    expected, error = one_by_one(bytes(whole))
    found, told = together(Frames(stream(bytes(whole))), count)
    assert told == error
    assert found == expected[: len(found)]
    assert len(expected) - len(found) < (count if error else 1)


@given(content=records(), count=st.integers(1, 100), cut=st.floats(0, 1), step=st.integers(1, 300))
@example(content=([frame(b"abc")] * 20, [b"abc"] * 20), count=5, cut=(12 * 17 - 1) / 240, step=7)  # in the padding
def test_reading_that_is_stopped_leaves_exactly_the_whole_records_before(content, count, cut, step):
    framed, payloads = content
    sent = b"".join(framed)[: round(cut * sum(map(len, framed)))]
    ends = np.cumsum([len(it) for it in framed])
    whole = int(np.searchsorted(ends, len(sent), side="right"))
    assert take_all(Frames(stream(sent, step, stopped=True)), count) == payloads[:whole]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (frame(b"abcd") * 3, [b"abcd"] * 3),
        (frame(b"abcd") * 2 + frame(b"abcde") + frame(b"") + frame(b"ab"), [b"abcd", b"abcd", b"abcde", b"", b"ab"]),
        (frame(b"ab") + frame(b"abc")[:-1], [b"ab"]),  # without its padding
        (frame(b"abcd") * 2 + frame(b"abcd", flag=1) + frame(b"abcd", flag=3), [b"abcd", b"abcd"]),
        (frame(b"abcd", flag=1) + frame(b"abcd", flag=3), []),
        (
            frame(struct.pack("<II", MAGIC, 4)) + frame(b"abcd") + frame(b"x"),
            [struct.pack("<II", MAGIC, 4), b"abcd", b"x"],
        ),
        (frame(b"abcd") + b"text" + frame(b"abcd"), [b"abcd"]),
        (b"text" + frame(b"abcd"), []),
        (struct.pack("<I", MAGIC), []),
        (b"", []),
    ],
)
def test_frames_are_found_up_to_what_is_not_a_whole_one(content, found):
    block = np.frombuffer(content, np.uint8)
    starts, lengths = framing.find_frames(block)
    assert [content[start : start + length] for start, length in zip(starts, lengths, strict=True)] == found


def test_records_of_many_lengths_come_many_at_a_time():
    content = b"".join(frame(bytes(length % 50)) for length in range(10_000))
    frames = Frames(stream(content, 1 << 20))
    taken = [len(frames.take(1000)) for _ in range(11)]
    assert taken == [1000] * 10 + [0]
