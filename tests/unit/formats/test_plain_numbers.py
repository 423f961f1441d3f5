import io

import numpy as np
import pytest
import simdjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from knn_container.errors import FormatError, ReadingStopped
from knn_container.formats import csv, plain_numbers

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


def fast(text, width=None):
    try:
        return [batch_bytes(batch) for batch in csv.read_batches(io.BytesIO(text), 3, width)]
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
@given(lines=TEXTS, block=st.integers(1, 40))
def test_wherever_blocks_are_cut_the_rows_are_the_same(lines, block):
    text = "\n".join(lines).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_numbers, "BLOCK", block)
        cut = list(plain_numbers.blocks(io.BytesIO(text)))
        found = fast(text)
    assert b"".join(cut) == text
    assert all(part.endswith((b"\n", b"\r")) for part in cut[:-1])
    expected = careful(text)
    if isinstance(expected, str):
        assert isinstance(found, str)  # another of several mistakes may come first
    else:
        assert joined(found) == joined(expected)


def test_plain_lines_are_parsed_together():
    assert plain_numbers.decode(b"1,2.5\n-3,4e2\r\n".replace(b"\r\n", b"\n")).tolist() == [[1, 2.5], [-3, 400]]
    assert plain_numbers.decode(b"1,2\r\n3,4\r\n").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("text", [b"", b"\n", b"1,2\n3\n", b"1,2\n\n", b"1,[2]\n", b"1,nan\n", b"1,1e999\n", b"1,-0\n"])
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


def test_a_parser_goes_on_after_what_it_could_not_parse():
    parser = simdjson.Parser()
    for text in (b"1,true\n", b'1,"2"\n', b"1,x\n", b"1,1e999\n"):
        assert plain_numbers.decode(text, parser) is None
        assert plain_numbers.decode(b"1,2\n", parser).tolist() == [[1, 2]]
