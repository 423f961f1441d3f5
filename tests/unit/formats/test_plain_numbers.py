import io
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from knn_container.errors import FormatError, ReadingStopped
from knn_container.formats import csv, plain_numbers

DECIMAL = re.compile(r"[+-]?([0-9]{1,24}(\.[0-9]{0,24})?|\.[0-9]{1,24})([eE][+-]?[0-9]{1,3})?")
CELLS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False).map(repr),
    st.floats(-1e6, 1e6).map("{:.3f}".format),
    st.sampled_from(
        ["0", "-0", "-0.0", "+1", "01", "1.", ".5", "1e5", "1E-3", " 7", "8 ", "nan", "", '"1"', "[1", "]"]
    ),
)
TEXTS = st.lists(st.lists(CELLS, min_size=1, max_size=4).map(",".join), max_size=8)


def careful(text, width=None):
    """What the parser of single lines makes of a text: its rows' bytes, or its complaint."""
    try:
        return [batch_bytes(batch) for batch in csv._read_lines(io.BytesIO(text), 3, width, "utf-8", 1)]
    except FormatError as error:
        return str(error)


def fast(text, width=None, threads=1):
    try:
        return [batch_bytes(batch) for batch in csv.read_batches(io.BytesIO(text), 3, width, threads)]
    except FormatError as error:
        return str(error)


def joined(found):
    """The bytes of all batches together, wherever they were cut, or the complaint."""
    return found if isinstance(found, str) else [b"".join(part) for part in zip(*found, strict=True)]


def batch_bytes(batch):
    return batch.labels.tobytes(), batch.features.tobytes()


@settings(max_examples=500)
@given(lines=TEXTS, end=st.sampled_from(["\n", "\r\n", "\r"]), last=st.booleans(), width=st.sampled_from([None, 1, 2]))
@example(lines=["1,2", "1,-0"], end="\n", last=False, width=None)
@example(lines=["1,2,3", "1", "1,2"], end="\n", last=True, width=None)
def test_the_fast_parser_gives_what_the_careful_one_gives(lines, end, last, width):
    text = (end.join(lines) + (end if last else "")).encode()
    found, expected = fast(text, width), careful(text, width)
    if isinstance(expected, str) and not last:
        assert isinstance(found, str)  # of several mistakes, one in the line without an end may come later
    else:
        assert joined(found) == joined(expected)


@settings(max_examples=300)
@given(lines=TEXTS, block=st.integers(1, 40), threads=st.integers(1, 3))
def test_wherever_blocks_are_cut_the_rows_are_the_same(lines, block, threads):
    text = "\n".join(lines).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_numbers, "BLOCK", block)
        cut = list(plain_numbers.blocks(io.BytesIO(text)))
        found = fast(text, threads=threads)
    assert b"".join(cut) == text
    assert all(part.endswith((b"\n", b"\r")) for part in cut[:-1])
    expected = careful(text)
    if isinstance(expected, str):
        assert isinstance(found, str)  # another of several mistakes may come first
    else:
        assert joined(found) == joined(expected)


def _is_nearest(text):
    found, number = plain_numbers.decode(f"1,{text}\n".encode()), float(text)
    return found is None if np.isinf(number) else found.tobytes() == np.array([1, number]).tobytes()


@settings(max_examples=1000)
@given(st.one_of(st.floats(allow_nan=False).map(repr), st.from_regex(DECIMAL, fullmatch=True)))
@example("9007199254740993")
@example("-0")
@example("00000000000000000000000000001e-1")
@example("0.000000000000000000000000000000000000001")
@example("1e-400")
@example("0e999999999999")
@example("0." + "0" * 99_999 + "1e100000")
@example("0." + "0" * 100_000 + "1e1000001")
def test_every_number_is_rounded_to_the_nearest_float64(text):
    assert _is_nearest(text)


@settings(max_examples=1000)
@given(
    number=st.floats(1e-20, 1e20),
    power=st.integers(-30, 30),
    more=st.integers(-2, 2),
    digits=st.integers(15, 25),
)
def test_numbers_halfway_between_two_float64_are_rounded_to_the_nearest(number, power, more, digits):
    halfway = (Decimal(number) + Decimal(np.nextafter(number, np.inf))) / 2
    whole, exponent = int(halfway.scaleb(digits - 1 - halfway.adjusted())) + more, halfway.adjusted() - digits + 1
    assert _is_nearest(f"{whole}e{exponent}")
    assert _is_nearest(f"-{whole}e{power}")
    assert _is_nearest(f"{whole // 10**5}.{whole % 10**5:05}e{exponent + 5}")


def test_plain_lines_are_parsed_together():
    assert plain_numbers.decode(b"1,2.5\n-3,4e2\r\n".replace(b"\r\n", b"\n")).tolist() == [[1, 2.5], [-3, 400]]
    assert plain_numbers.decode(b"1,2\r\n3,4\r\n").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("text", [b"", b"\n", b"1,2\n3\n", b"1,2\n\n", b"1,[2]\n", b"1,nan\n", b"1,1e999\n"])
def test_what_is_not_plain_is_left_to_the_careful_parser(text):
    assert plain_numbers.decode(text) is None


class Slow(io.BytesIO):
    """Gives a few bytes at a time, and counts how often it is asked."""

    asked = 0

    def read1(self, size=-1):
        self.asked += 1
        return super().read1(min(size, 5))


def test_lines_are_given_as_soon_as_they_have_come():
    stream = Slow(b"1,2\n3,4\n5,6\n")
    batches = csv.read_batches(stream, 1, None)
    assert next(batches).labels.tolist() == [1]
    assert stream.asked == 1
    assert [batch.labels.tolist() for batch in batches] == [[3], [5]]


@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_blocks_of_lines_with_either_end_are_small(end):
    text = (b"1,2,3" + end) * 1_000_000
    cut = list(plain_numbers.blocks(io.BytesIO(text)))
    assert b"".join(cut) == text
    assert max(map(len, cut)) <= 3 * plain_numbers.BLOCK


class Failing(io.BytesIO):
    def read1(self, size=-1):
        if piece := super().read1(min(size, 5)):
            return piece
        raise OSError("no more")


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_what_has_come_before_a_stream_fails_is_given_first(threads):
    batches, rows = csv.read_batches(Failing(b"1,2\n3,4\n5,6\n"), 10, None, threads), []
    with pytest.raises(OSError, match="no more"):
        rows += (batch.labels.tolist() for batch in batches)
    assert rows == [[1], [3], [5]]


def test_no_more_than_one_very_long_line_is_parsed_at_a_time(monkeypatch):
    monkeypatch.setattr(plain_numbers, "BLOCK", 5)
    begun = []
    monkeypatch.setattr(plain_numbers, "decode", begun.append)
    for number, _ in enumerate(plain_numbers.tables(io.BytesIO(b"1,2,3,4,5,6,7\n" * 5), 4), 1):
        assert len(begun) == number


class Stopping(io.BytesIO):
    def read1(self, size=-1):
        if piece := super().read1(size):
            return piece
        raise ReadingStopped


@pytest.mark.parametrize(("text", "rows"), [(b"1,2\n3,4", 1), (b"1,2\r\n3", 1), (b"1", 0), (b"1,2\n3,4\n", 2)])
def test_a_line_without_its_end_is_no_row_when_reading_stops(text, rows):
    assert sum(len(batch) for batch in csv.read_batches(Stopping(text), 10, None)) == rows


def test_rows_wider_than_a_block_are_read_whole():
    row = b",".join(b"%d" % number for number in range(2_000_000)) + b"\n"
    assert len(row) > 2 * plain_numbers.BLOCK
    batches = list(csv.read_batches(io.BytesIO(row * 2), 10, None))
    assert [batch.features.shape for batch in batches] == [(1, 1_999_999)] * 2
    np.testing.assert_array_equal(batches[1].features[0], np.arange(1, 2_000_000))


@pytest.mark.parametrize("bad", [None, 0, 7, 49])
def test_a_long_request_is_parsed_in_blocks(monkeypatch, bad):
    lines = [f"{row},{row}.5" for row in range(50)]
    if bad is not None:
        lines[bad] = "1,1e39"
    body = "\n".join(lines).encode()
    monkeypatch.setattr(plain_numbers, "BLOCK", 40)
    if bad is None:
        assert csv.decode_request(body, 2).tolist() == [[row, row + 0.5] for row in range(50)]
    else:
        with pytest.raises(FormatError, match=rf"row {bad + 1}: feature 2 is 1e\+39"):
            csv.decode_request(body, 2)
