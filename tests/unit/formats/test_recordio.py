"""The framing and the dense and sparse rows of `application/x-recordio-protobuf`."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knn_container.batch import dense
from knn_container.errors import FormatError
from knn_container.formats import recordio
from knn_container.formats.record_pb2 import Bytes, Float32Tensor, Float64Tensor, Int32Tensor, Record, Value

MAGIC = bytes.fromhex("0a23d7ce")
DENSE = bytes.fromhex(
    "0a23d7ce340000000a1e0a0676616c756573121412120a109a99993f6666a63f9a9919416666a24112120a0676616c756573120812060a04"
    "00008040"
)
SPARSE = bytes.fromhex(
    "0a23d7ce330000000a1d0a0676616c756573121312110a080000803f00002040120201031a010412120a0676616c756573120812060a0400"
    "00404000"
)
ALL_ZERO = bytes.fromhex("0a23d7ce110000000a0f0a0676616c756573120512031a0104000000")
ONE = Value(float32_tensor=Float32Tensor(values=[1]))


def dmlc_write(payload: bytes) -> bytes:
    """dmlc-core's RecordIOWriter::WriteRecord, line by line."""
    out, begin = b"", 0
    for i in range(0, len(payload) // 4 * 4, 4):
        if payload[i : i + 4] == MAGIC:
            out += MAGIC + struct.pack("<I", (1 if begin == 0 else 2) << 29 | i - begin) + payload[begin:i]
            begin = i + 4
    out += MAGIC + struct.pack("<I", (3 if begin else 0) << 29 | len(payload) - begin) + payload[begin:]
    return out + bytes(-len(payload) % 4)


def sdk_write(payload: bytes) -> bytes:
    """SageMaker's SDK: never cuts."""
    return MAGIC + struct.pack("<I", len(payload)) + payload + bytes(-len(payload) % 4)


def record(value: Value, label: Value = ONE) -> bytes:
    return Record(features={"values": value}, label={"values": label}).SerializeToString()


def read(*payloads: bytes, batch_size: int = 100, width: int | None = None):
    stream = io.BytesIO(b"".join(map(sdk_write, payloads)))
    batches = list(recordio.read_batches(stream, batch_size, width))
    rows = [row.tolist() for batch in batches for row in dense(batch.features)]
    return rows, np.concatenate([batch.labels for batch in batches])


full_of_magic = st.lists(st.one_of(st.just(MAGIC), st.binary(max_size=5), st.just(MAGIC * 2))).map(b"".join)


@given(st.lists(full_of_magic, max_size=4))
def test_records_that_dmlc_cut_come_back_whole(payloads):
    stream = io.BytesIO(b"".join(map(dmlc_write, payloads)))
    assert list(recordio.read_payloads(stream)) == payloads


@given(st.lists(full_of_magic, max_size=4))
def test_magic_inside_a_whole_frame_is_payload(payloads):
    stream = io.BytesIO(b"".join(map(sdk_write, payloads)))
    assert list(recordio.read_payloads(stream)) == payloads
    assert list(map(recordio.frame, payloads)) == list(map(sdk_write, payloads))


def test_a_record_is_cut_where_the_magic_is_aligned_and_only_there():
    cut = dmlc_write(MAGIC + b"abcd" + MAGIC + b"x" + MAGIC + b"yz")
    flags = [int.from_bytes(cut[i + 4 : i + 8], "little") >> 29 for i in (0, 8, 20)]
    assert flags == [1, 2, 3]
    assert list(recordio.read_payloads(io.BytesIO(cut))) == [MAGIC + b"abcd" + MAGIC + b"x" + MAGIC + b"yz"]


def test_rows_that_hold_the_magic_are_read_cut_and_uncut():
    magic_number = np.frombuffer(MAGIC, "<f4")[0].item()
    for write in (dmlc_write, sdk_write):
        frames = b"".join(write(record(Value(float32_tensor=Float32Tensor(values=[magic_number] * n)))) for n in (4, 4))
        (batch,) = recordio.read_batches(io.BytesIO(frames), 10, None)
        np.testing.assert_array_equal(dense(batch.features), np.full((2, 4), magic_number, np.float32))


@pytest.mark.parametrize(
    ("frames", "row", "label"),
    [(DENSE, [1.2, 1.3, 9.6, 20.3], 4), (SPARSE, [0, 1, 0, 2.5], 3)],
)
def test_published_bytes_are_read(frames, row, label):
    (batch,) = recordio.read_batches(io.BytesIO(frames), 10, None)
    np.testing.assert_array_equal(dense(batch.features), np.array([row], np.float32))
    assert batch.labels.tolist() == [label]
    assert (dense(batch.features).dtype, batch.labels.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize(
    ("body", "row"),
    [(DENSE, [1.2, 1.3, 9.6, 20.3]), (SPARSE, [0, 1, 0, 2.5]), (ALL_ZERO, [0, 0, 0, 0])],
)
def test_published_bytes_are_requests_framed_and_bare(body, row):
    length = int.from_bytes(body[4:8], "little")
    for request in (body, body[8 : 8 + length], body * 3):
        rows = dense(recordio.decode_request(request, 4))
        np.testing.assert_array_equal(rows, np.array([row] * len(rows), np.float32))
    assert len(rows) == 3


def test_published_bytes_are_written():
    features, labels = np.array([[1.2, 1.3, 9.6, 20.3]], np.float32), np.array([4], np.float32)
    assert recordio.encode(features, labels) == DENSE
    without_label = sdk_write(DENSE[8 : 8 + 0x20])
    assert recordio.encode(features) == without_label


def test_mixed_rows_become_dense_alike():
    (batch,) = recordio.read_batches(io.BytesIO(DENSE + SPARSE), 10, None)
    np.testing.assert_array_equal(dense(batch.features), np.array([[1.2, 1.3, 9.6, 20.3], [0, 1, 0, 2.5]], "f4"))


@pytest.mark.parametrize(
    ("tensor", "row"),
    [
        (Value(float32_tensor=Float32Tensor(values=[0.1, -2])), [0.1, -2]),
        (Value(float64_tensor=Float64Tensor(values=[0.1, 1e-300])), [0.1, 0]),
        (Value(int32_tensor=Int32Tensor(values=[2**24 + 1, -(2**31)])), [2**24, -(2**31)]),
        (Value(float32_tensor=Float32Tensor(values=[3, 4], shape=[2])), [3, 4]),
        (Value(float32_tensor=Float32Tensor(values=[5], keys=[1], shape=[2])), [0, 5]),
        (Value(float64_tensor=Float64Tensor(values=[0.1], keys=[0], shape=[1, 2])), [0.1, 0]),
        (Value(int32_tensor=Int32Tensor(values=[7, -8], keys=[1, 0], shape=[2])), [-8, 7]),
        (Value(float32_tensor=Float32Tensor(shape=[2])), [0, 0]),
        (Value(int32_tensor=Int32Tensor(shape=[1, 2])), [0, 0]),
    ],
)
def test_features_of_every_type_are_rounded_to_float32(tensor, row):
    assert read(record(tensor))[0] == [[float(np.float32(number)) for number in row]]
    np.testing.assert_array_equal(dense(recordio.decode_request(record(tensor), 2)), np.array([row]).astype("f4"))


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([Value(int32_tensor=Int32Tensor(values=[2**31 - 1]))], "int32"),
        ([Value(float32_tensor=Float32Tensor(values=[0.5]))], "float32"),
        ([Value(float64_tensor=Float64Tensor(values=[2**53]))], "float64"),
        ([ONE, Value(int32_tensor=Int32Tensor(values=[2**24 + 1]))], "float64"),
    ],
)
def test_labels_keep_their_type_whatever_the_features(labels, dtype):
    tensors = (
        Value(float32_tensor=Float32Tensor(values=[1])),
        Value(float64_tensor=Float64Tensor(values=[1])),
        Value(int32_tensor=Int32Tensor(values=[1])),
    )
    for tensor in tensors:
        came = read(*(record(tensor, label) for label in labels))[1]
        assert came.dtype == dtype
        sent = [getattr(label, label.WhichOneof("value")).values[0] for label in labels]
        assert came.tolist() == sent


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), wide=st.booleans(), batch_size=st.integers(1, 10))
def test_what_is_encoded_is_read_in_batches(rows, columns, wide, batch_size):
    rng = np.random.default_rng(rows * 10 + columns)
    features = rng.normal(size=(rows, columns)).astype(np.float64 if wide else np.float32)
    labels = rng.integers(0, 2**40, rows).astype(np.float64)
    batches = list(recordio.read_batches(io.BytesIO(recordio.encode(features, labels)), batch_size, columns))
    assert [len(batch) for batch in batches] == [min(batch_size, rows - i) for i in range(0, rows, batch_size)]
    np.testing.assert_array_equal(np.concatenate([dense(b.features) for b in batches]), features.astype(np.float32))
    np.testing.assert_array_equal(np.concatenate([b.labels for b in batches]), labels)


def test_uids_are_those_of_the_records():
    named = Record(features={"values": ONE}, label={"values": ONE}, uid="a").SerializeToString()
    (batch,) = recordio.read_batches(io.BytesIO(sdk_write(named) + sdk_write(record(ONE))), 10, None)
    assert batch.uids == ["a", ""]
    (batch,) = recordio.read_batches(io.BytesIO(sdk_write(record(ONE))), 10, None)
    assert batch.uids == []


def test_answers_are_one_whole_frame_a_row_with_a_tensor_for_each_column():
    columns = {
        "predicted_label": [np.array([4], np.float32), np.array([5], np.float32)],
        "labels": [np.array([2**53, 1], np.float64), np.array([7], np.float64)],
    }
    body = recordio.encode_answers(columns)
    payloads = list(recordio.read_payloads(io.BytesIO(body)))
    assert body == b"".join(map(sdk_write, payloads))
    first, second = map(Record.FromString, payloads)
    assert list(first.label["predicted_label"].float32_tensor.values) == [4]
    assert list(first.label["labels"].float64_tensor.values) == [2**53, 1]
    assert list(second.label["labels"].float64_tensor.values) == [7]


def test_bytes_are_no_numbers():
    with pytest.raises(FormatError, match=r"row 1.*bytes came"):
        read(record(Value(bytes=Bytes(value=[b"1"]))))
