"""Records decoded together are those that protobuf's parser finds one by one, whatever their layout."""

import struct
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knn_container.batch import Batch, dense
from knn_container.errors import FormatError
from knn_container.formats import dense_records, recordio
from knn_container.formats.records import Records

KINDS = {"float32": 2, "float64": 3, "int32": 7}
SINGLE = {"float32": b"\x0d", "float64": b"\x09", "int32": b"\x08"}
UNKNOWN = [b"", b"\x7d\x01\x02\x03\x04", b"\x78\x05", b"\x7a\x02hi", b"\x79" + bytes(8)]  # field 15 in its wire types


def varint(number, longer=0):
    """A number in as few bytes as can be, or in more."""
    out, number = bytearray(), number % (1 << 64)
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number]) if not longer else bytes([*out, number | 0x80, *[0x80] * (longer - 1), 0])


def field(number, payload, longer=0):
    return varint(number << 3 | 2) + varint(len(payload), longer) + payload


def pack(values, kind, longer=0):
    if kind == "int32":
        return b"".join(varint(int(value), longer) for value in values)
    return struct.pack(f"<{len(values)}{'f' if kind == 'float32' else 'd'}", *values)


def tensor(values, kind, how):
    """A value that holds numbers, as writers write it or as the wire format allows too."""
    packed = pack(values, kind)
    bodies = {
        "shaped": field(1, packed) + field(3, varint(len(values))),
        "misshaped": field(1, packed) + field(3, varint(len(values) + 1)),
        "unshaped": field(1, packed) + field(3, b""),
        "sparse": field(1, packed) + field(2, bytes(range(len(values)))) + field(3, varint(3)),
        "without keys": field(1, packed) + field(2, b""),
        "single": b"".join(SINGLE[kind] + pack([value], kind) for value in values),
        "in two": field(1, pack(values[:1], kind)) + field(1, pack(values[1:], kind)),
        "long length": field(1, packed, longer=1),
        "longest length": field(1, packed, longer=9),
        "long numbers": field(1, pack(values, kind, longer=4)),
        "cut": field(1, packed[:-1]),
        "of bytes": field(9, packed),
    }
    return field(KINDS[kind], bodies.get(how, field(1, packed))) * (2 if how == "twice" else 1)


HOW = st.sampled_from(
    [
        *["plain"] * 14,
        *["shaped", "misshaped", "unshaped", "sparse", "without keys", "single", "in two", "long length"],
        *["longest length", "long numbers", "cut", "of bytes", "twice"],
    ]
)


@dataclass(frozen=True)
class Layout:
    """All of a record but its numbers."""

    width: int
    kinds: tuple[str, str]
    how: tuple[str, str]
    key: bytes
    labels: int | None
    uid: bytes | None
    other: bytes
    order: list[int]
    backwards: bool

    def record(self, values, label):
        parts = [self._entry(1, values[: self.width], 0), self.other]
        if self.labels is not None:
            parts.append(self._entry(2, [label] * self.labels, 1))
        if self.uid is not None:
            parts.append(field(3, self.uid))
        return b"".join(parts[place] for place in self.order if place < len(parts))

    def _entry(self, number, values, which):
        entry = [field(1, self.key), field(2, tensor(values, self.kinds[which], self.how[which]))]
        return field(number, b"".join(reversed(entry) if self.backwards else entry))


def mostly(usual, *others):
    return st.sampled_from([usual] * 6 + list(others))


LAYOUTS = st.builds(
    Layout,
    width=mostly(3, 2, 0),
    kinds=st.tuples(st.sampled_from([*KINDS]), st.sampled_from([*KINDS])),
    how=st.tuples(HOW, HOW),
    key=mostly(b"values", b"value", b""),
    labels=mostly(1, 0, 2, None),
    uid=mostly(None, b"", b"a", b"row", "\u00e4\u00f6".encode(), b"\0", b"x" * 256, b"x" * 257, b"\xff"),
    other=mostly(b"", field(4, b"meta"), field(5, b"\xff"), field(3, b"first"), *UNKNOWN),
    order=mostly([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 0, 2, 3]),
    backwards=mostly(False, True),
)
WHOLE = st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 300)
ROWS = st.lists(st.tuples(WHOLE, WHOLE, WHOLE, WHOLE), min_size=1, max_size=25)


@st.composite
def batches(draw, layouts=LAYOUTS):
    """Records of some layouts in any order, some with a byte changed or cut at their end."""
    used = draw(st.lists(layouts, min_size=1, max_size=3))
    rows = draw(ROWS)
    which = draw(st.lists(st.integers(0, len(used) - 1), min_size=len(rows), max_size=len(rows)))
    payloads = [used[it].record(row[:3], row[3]) for it, row in zip(which, rows, strict=True)]
    for row, place, byte in draw(
        st.lists(st.tuples(st.integers(0, 24), st.integers(0, 80), st.integers(0, 255)), max_size=1)
    ):
        changed = bytearray(payloads[row % len(rows)])
        if place < len(changed):
            changed[place] = byte
        else:
            del changed[-1:]
        payloads[row % len(rows)] = bytes(changed)
    return payloads


def outcome(decode):
    """A batch's bytes and types, or its complaint."""
    try:
        batch = decode()
    except FormatError as error:
        return str(error), error.row
    return dense(batch.features).tobytes(), batch.labels.tobytes(), batch.labels.dtype, batch.uids


@pytest.fixture(params=[1, 3], ids=["every layout", "some rows of a layout"])
def few(request, monkeypatch):
    monkeypatch.setattr(dense_records, "FEW", request.param)


@pytest.mark.usefixtures("few")
@settings(max_examples=300)
@given(payloads=batches(), width=mostly(None, 3, 2))
def test_what_is_decoded_together_is_what_is_parsed_one_by_one(payloads, width):
    expected = outcome(lambda: recordio._parse_all(payloads, 5, width))
    assert outcome(lambda: recordio._decode(Records.of(payloads), 5, width)) == expected


@pytest.mark.usefixtures("few")
@given(payloads=batches(), width=mostly(3, 2))
def test_a_request_decoded_together_is_one_parsed_one_by_one(payloads, width):
    def one_by_one():
        parsed = [recordio._parse(payload, row) for row, payload in enumerate(payloads, 1)]
        return recordio._features(parsed, 1, width)

    def together():
        return recordio.decode_request(b"".join(map(recordio.frame, payloads)), width)

    assert outcome(lambda: features_alone(together())) == outcome(lambda: features_alone(one_by_one()))


def features_alone(features):
    return Batch(features, np.zeros(len(features)))


PLAIN = {"how": ("plain", "plain"), "key": b"values", "other": b"", "order": [0, 1, 2, 3], "backwards": False}


def layout(kind="float32", label_kind="float32", *, uid=None, width=3, **others):
    return Layout(**PLAIN | {"width": width, "kinds": (kind, label_kind), "labels": 1, "uid": uid} | others)


def records(*layouts, count=60):
    """So many records, the layouts taking turns."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 100, (count, 4))
    return [layouts[row % len(layouts)].record(values[:3], values[3]) for row, values in enumerate(rows)]


@pytest.mark.parametrize(
    "layouts",
    [
        [layout()],
        [layout("float64", "int32", uid=b"name")],
        [layout("int32", uid=b"a"), layout("int32", uid="\u00e4".encode())],
        [layout("float32"), layout("float64"), layout("int32")],
        [layout(), layout(order=[2, 0, 1, 3]), layout(backwards=True)],  # of one length
        [layout(other=field(4, b"some")), layout(other=field(5, b"more"), how=("shaped", "plain"))],
    ],
)
def test_of_the_usual_layouts_nothing_is_left_to_the_parser(layouts):
    payloads = records(*layouts)
    parts, left = dense_records.decode(Records.of(payloads), labelled=True)
    assert left.tolist() == []
    rows = dense_records.join(parts)
    expected = recordio._parse_all(payloads, 1, 3)
    np.testing.assert_array_equal(rows.features, dense(expected.features))
    np.testing.assert_array_equal(rows.labels, expected.labels)
    assert (rows.labels.dtype, rows.uids) == (expected.labels.dtype, expected.uids)


@pytest.mark.parametrize("how", ["sparse", "misshaped", "single", "in two", "long length", "of bytes", "twice"])
def test_the_unusual_among_the_usual_is_left_to_the_parser(how):
    payloads = records(layout())
    payloads[7] = layout(how=(how, "plain")).record([1, 2, 3], 4)
    _, left = dense_records.decode(Records.of(payloads), labelled=True)
    assert left.tolist() == [7]


def test_all_of_a_sparse_file_is_left_after_a_look_at_few_records(monkeypatch):
    looked = []
    monkeypatch.setattr(dense_records, "locate", looked.append)
    _, left = dense_records.decode(Records.of(records(layout(how=("sparse", "plain")), count=1000)), labelled=True)
    assert left.tolist() == list(range(1000))
    assert len(looked) < 10


def test_a_few_sparse_rows_among_dense_ones_are_spread():
    payloads = records(layout(), count=20)
    payloads[7] = layout(how=("sparse", "plain")).record([1, 2, 3], 4)
    assert isinstance(recordio._decode(Records.of(payloads), 1, None).features, np.ndarray)


def test_a_few_dense_rows_among_wide_sparse_ones_stay_sparse():
    payloads = records(layout(how=("sparse", "plain")), count=40)
    payloads[:15] = records(layout(), count=15)
    assert not isinstance(recordio._decode(Records.of(payloads), 1, None).features, np.ndarray)


@given(ROWS, st.integers(0, 2))
def test_a_number_outside_float32_is_named(rows, column):
    payloads = [layout("float64").record(row[:3], row[3]) for row in rows * 10]
    bad = len(payloads) // 2
    payloads[bad] = layout("float64").record([1e39 if it == column else 0 for it in range(3)], 1)
    with pytest.raises(FormatError, match=rf"feature {column + 1} is 1e\+39") as caught:
        recordio._decode(Records.of(payloads), 1, None)
    assert caught.value.row == bad + 1
