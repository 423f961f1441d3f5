"""Broken `application/x-recordio-protobuf`: a FormatError that names the row, and never anything else."""

import io
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knn_container.batch import dense
from knn_container.errors import FormatError
from knn_container.formats import recordio
from knn_container.formats.record_pb2 import Float32Tensor, Record, Value

MAGIC = bytes.fromhex("0a23d7ce")


def frame(payload: bytes, flag: int = 0) -> bytes:
    return MAGIC + struct.pack("<I", flag << 29 | len(payload)) + payload + bytes(-len(payload) % 4)


def tensor(**fields) -> Value:
    return Value(float32_tensor=Float32Tensor(**fields))


def record(features: Value | None = None, label: Value | None = None) -> bytes:
    return Record(
        features={"values": features or tensor(values=[1, 2])}, label={"values": label or tensor(values=[3])}
    ).SerializeToString()


def read(frames: bytes, width: int | None = None) -> list:
    return [batch for batch in recordio.read_batches(io.BytesIO(frames), 2, width) if dense(batch.features) is not None]


WHOLE = record()
PARTS = record(tensor(values=np.frombuffer(MAGIC * 2, "<f4"))).split(MAGIC)
CUT = b"".join(frame(part, flag) for flag, part in enumerate(PARTS, 1))


@pytest.mark.parametrize("last", [frame(WHOLE), CUT], ids=["whole", "cut"])
def test_data_that_end_in_a_record_name_its_row(last):
    before = frame(WHOLE) * 2
    assert len(read(before + last)) == 2  # batches
    for end in range(1, len(last)):
        for decode in (read, lambda frames: recordio.decode_request(frames, 2)):
            with pytest.raises(FormatError) as caught:
                decode(before + last[:end])
            assert caught.value.row == 3


@pytest.mark.parametrize("kept", range(4))
def test_padding_may_be_missing_behind_the_last_record(kept):
    named = WHOLE + b"\x1a\x03uid"
    assert len(named) % 4 == 1
    (batch,) = read(MAGIC + struct.pack("<I", len(named)) + named + bytes(kept))
    assert batch.labels.tolist() == [3]


@pytest.mark.parametrize(
    ("frames", "row", "words"),
    [
        (b"text,1,2\n", 1, "magic 0a23d7ce"),
        (frame(WHOLE) + b"\0" * 8, 2, "magic"),
        (frame(WHOLE) + MAGIC[::-1] + bytes(4), 2, "ced7230a came"),
        (frame(WHOLE, 4), 1, "part flag is 4"),
        (frame(WHOLE, 7), 1, "part flag is 7"),
        (frame(WHOLE) + frame(WHOLE, 2), 2, "out of order"),
        (frame(WHOLE, 3), 1, "out of order"),
        (frame(b"", 1) + frame(WHOLE, 0), 1, "out of order"),
        (frame(b"", 1) + frame(WHOLE, 1), 1, "out of order"),
        (frame(b"", 1), 1, "last part"),
        (frame(WHOLE) + frame(b"\xff" * 9), 2, "protobuf"),
    ],
)
def test_broken_framing_names_the_row(frames, row, words):
    with pytest.raises(FormatError, match=words) as caught:
        read(frames)
    assert caught.value.row == row


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "feature tensor"),
        (Record(features={"value": tensor(values=[1, 2])}).SerializeToString(), "'value'"),
        (Record(features={"values": Value()}).SerializeToString(), "nothing came"),
        (Record(features={"values": tensor(values=[1, 2])}).SerializeToString(), "label tensor"),
        (record(tensor(values=[1])), "expected 2 features, 1 came"),
        (record(tensor(values=[1, 2, 3])), "expected 2 features, 3 came"),
        (record(tensor(values=[1, float("nan")])), "feature 2 is nan"),
        (record(tensor(values=[float("-inf"), 1])), "feature 1 is -inf"),
        (record(tensor(values=[1], keys=[0], shape=[3])), "expected 2 features, 3 came"),
        (record(tensor(values=[1], keys=[0])), "no shape"),
        (record(tensor(values=[1], keys=[2], shape=[2])), "outside its 2 columns"),
        (record(tensor(values=[1], keys=[2**64 - 1], shape=[2])), "outside its 2 columns"),
        (record(tensor(values=[1], keys=[0, 1], shape=[2])), "2 keys and 1 values"),
        (record(tensor(values=[1, 2], keys=[1], shape=[2])), "1 keys and 2 values"),
        (record(tensor(values=[1, 2], keys=[1, 1], shape=[2])), "twice"),
        (record(tensor(values=[1], keys=[0], shape=[2, 2])), r"shape of one row, \[2, 2\]"),
        (record(tensor(values=[1], keys=[0], shape=[1, 1, 2])), "shape of one row"),
        (record(tensor(values=[float("nan")], keys=[0], shape=[2])), "nan"),
        (record(label=tensor(values=[])), "one label, 0 came"),
        (record(label=tensor(values=[1, 2])), "one label, 2 came"),
        (record(label=tensor(values=[float("inf")])), "label is inf"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_the_reason(payload, words):
    with pytest.raises(FormatError, match=words) as caught:
        read(frame(WHOLE) * 4 + frame(payload))
    assert caught.value.row == 5


@pytest.mark.parametrize("fields", [{}, {"shape": [0]}], ids=["dense", "sparse"])
def test_a_first_row_without_features_is_refused(fields):
    with pytest.raises(FormatError, match="row 1"):
        read(frame(record(tensor(**fields))))


@pytest.mark.parametrize("shape", [[2**40], [2**63 + 1], [2**64 - 1]])
def test_a_first_row_too_wide_for_memory_is_refused(shape):
    with pytest.raises(FormatError, match="row 1"):
        read(frame(record(tensor(values=[1], keys=[shape[0] - 1], shape=shape))))


def test_a_key_beyond_64_bit_integers_is_refused():
    with pytest.raises(FormatError, match="row 1"):
        recordio.decode_request(record(tensor(values=[1], keys=[2**63], shape=[2**63 + 1])), 2)


def test_fields_that_the_schema_does_not_know_leave_the_numbers_alone():
    field_15 = b"\x7d\x01\x02\x03\x04"  # a fixed32, as a later schema may have it
    numbers = Float32Tensor(values=[1, 2]).SerializeToString() + field_15
    value = Value.FromString(b"\x12" + bytes([len(numbers)]) + numbers)
    np.testing.assert_array_equal(dense(recordio.decode_request(record(value), 2)), [[1, 2]])


def test_a_uid_that_is_not_utf8_is_refused():
    with pytest.raises(FormatError, match="row 1"):
        read(frame(WHOLE + b"\x1a\x02\xff\xfe"))


@pytest.mark.parametrize("body", [b"", b"\x0a"])
def test_a_request_without_a_record_is_refused(body):
    with pytest.raises(FormatError):
        recordio.decode_request(body, 2)


@pytest.mark.parametrize("rows", [1, 20])
def test_rows_of_no_features_are_refused_however_they_are_written(rows, recordio):
    # A tensor whose list of numbers is there and empty; protobuf's own writers leave it out.
    tensor = recordio.field(2, recordio.field(1, b""))
    written = recordio.record(tensor, recordio.tensor([3]))
    with pytest.raises(FormatError, match="row 1: expected from 1 to 134217728 features, 0 came"):
        read(recordio.frame(written) * rows)


def only_format_errors(body: bytes):
    for decode in (read, lambda frames: read(frames, 2), lambda request: recordio.decode_request(request, 2)):
        with suppress(FormatError):
            decode(body)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(frame), st.binary(max_size=60).map(WHOLE.__add__)))
def test_random_bytes_give_format_errors_alone(body):
    only_format_errors(body)


SEEDS = (
    frame(WHOLE) + frame(record(tensor(values=[1], keys=[1], shape=[2]))),
    CUT,
    record(tensor(values=[1], keys=[1], shape=[1, 2])),
)


@settings(max_examples=500)
@given(seed=st.sampled_from(SEEDS), changes=st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=4))
def test_mutated_records_give_format_errors_alone(seed, changes):
    body = bytearray(seed)
    for place, new in changes:
        start = place % (len(body) + 1)
        body[start : start + len(new)] = new
    only_format_errors(bytes(body))
