"""`application/x-recordio-protobuf`: RecordIO frames that each hold one `aialgs.data.Record`.

The record is documented in SageMaker's "Common Data Formats for Training".
"""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from math import prod
from typing import BinaryIO

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from knn_container.batch import (
    Batch,
    Column,
    Features,
    Float32Array,
    SparseRows,
    check_labels,
    check_width,
    dense,
    finite_float32,
    sparse_width,
)
from knn_container.errors import FormatError
from knn_container.formats import answer_records, dense_records
from knn_container.formats.dense_records import LONGEST_UID, Part
from knn_container.formats.framing import MAGIC, Frames, find_frames, frame, read_payloads
from knn_container.formats.record_pb2 import Bytes, Float32Tensor, Float64Tensor, Int32Tensor, Record, Value
from knn_container.formats.records import Records

_KEY = "values"
_WIDEST = 1 << 27  # features of a dense float32 row that fills the largest record

Tensor = Float32Tensor | Float64Tensor | Int32Tensor
Numbers = NDArray[np.float32 | np.float64 | np.int32]


def read_batches(stream: BinaryIO, batch_size: int, width: int | None) -> Iterator[Batch]:
    """Reads labelled rows, at most `batch_size` at a time.

    Args:
        stream: frames up to its end. A batch with a sparse row in it comes as `SparseRows`.
        batch_size: rows in a batch; a batch of 4 MiB is full before.
        width: features in a row; None takes the first row's.

    Raises:
        FormatError: broken framing, a record that cannot be parsed, or a row that does not fit; rows count from 1.
    """
    frames = Frames(stream)
    first_row = 1
    while len(records := frames.take(batch_size)):
        batch = _decode(records, first_row, width)
        yield batch
        width = batch.features.shape[1]
        first_row += len(batch)


def _decode(records: Records, first_row: int, width: int | None) -> Batch:
    parts, left = dense_records.decode(records, labelled=True)
    # The careful parser says what is wrong with a row, and keeps rows sparse where most of them are.
    if not parts or 2 * len(left) > len(records):
        return _parse_all(list(records), first_row, width)
    try:
        if len(left):
            rest = _parse_all([records[row] for row in left], 1, parts[0].features.shape[1])
            parts.append(Part(left, dense(rest.features), rest.labels, rest.uids))
        rows = dense_records.join(parts)
        check_width(rows.features.shape[1], width, first_row)
    except ValueError:
        return _parse_all(list(records), first_row, width)
    return Batch(rows.features, rows.labels, rows.uids)


def _parse_all(payloads: Sequence[bytes], first_row: int, width: int | None) -> Batch:
    """Parses records one by one.

    Raises:
        FormatError: as `read_batches`.
    """
    records = [_parse(payload, row) for row, payload in enumerate(payloads, first_row)]
    features = _features(records, first_row, width)
    labels = np.concatenate([_label(record, row) for row, record in enumerate(records, first_row)])
    check_labels(labels, first_row)
    uids = [_uid(record, row) for row, record in enumerate(records, first_row)]
    return Batch(features, labels, uids if any(uids) else [])


def decode_request(body: bytes, width: int) -> Features:
    """Decodes a request's rows: frames, or one bare record, as batch transform sends it.

    Args:
        body: the whole request.
        width: features in a row; labels are left unread.

    Returns:
        (n, width) features, as `SparseRows` if one of them is sparse.

    Raises:
        FormatError: as `read_batches`.
    """
    if not body:
        raise FormatError("expected at least one record, an empty body came")
    if len(body) >= dense_records.FEW * int.from_bytes(body[4:8], "little"):
        starts, lengths = find_frames(np.frombuffer(body, np.uint8))
        whole = len(starts) > 0 and len(body) - starts[-1] - lengths[-1] in range(4)
        parts, left = dense_records.decode(Records(np.frombuffer(body, np.uint8), starts, lengths), labelled=False)
        if whole and not len(left) and {part.features.shape[1] for part in parts} == {width}:
            return dense_records.join(parts).features
    payloads = read_payloads(BytesIO(body)) if body.startswith(MAGIC) else [body]
    return _features([_parse(payload, row) for row, payload in enumerate(payloads, 1)], 1, width)


def _parse(payload: bytes, row: int) -> Record:
    try:
        return Record.FromString(payload)
    except DecodeError as error:
        raise FormatError("the record is not an aialgs.data.Record protobuf message", row) from error


def _uid(record: Record, row: int) -> str:
    if not isinstance(record.uid, str):  # protobuf hands text that is not UTF-8 on as bytes
        raise FormatError("the record's uid is not UTF-8", row)
    if len(record.uid) > LONGEST_UID:
        raise FormatError(f"expected a uid of at most {LONGEST_UID} characters, {len(record.uid)} came", row)
    return record.uid


def _features(records: Sequence[Record], first_row: int, width: int | None) -> Features:
    tensors = [_tensor(record.features, "feature", row) for row, record in enumerate(records, first_row)]
    rows = [_values(tensor) for tensor in tensors]
    if not any(map(_is_sparse, tensors)):
        for row, values in enumerate(rows, first_row):
            width = len(values) if width is None else width
            check_width(len(values), width, row)
            _check_possible(width, row)
            if (shape := tensors[row - first_row].shape) and prod(shape) != len(values):
                raise FormatError(f"the tensor has {len(values)} values and the shape {list(shape)}", row)
        return finite_float32(np.stack(rows), first_row)
    vectors: list[Float32Array] = []
    columns: list[Sequence[int]] = []
    for row, (tensor, values) in enumerate(zip(tensors, rows, strict=True), first_row):
        keys = tensor.keys if _is_sparse(tensor) else range(len(values))
        came = sparse_width(keys, tensor.shape, len(values), row) if _is_sparse(tensor) else len(values)
        width = came if width is None else width
        check_width(came, width, row)
        _check_possible(width, row)
        rounded = finite_float32(values[np.newaxis], row)[0]
        vectors.append(rounded)
        columns.append(keys)
    return SparseRows.of(vectors, columns, width or 0)


def _check_possible(width: int, row: int) -> None:
    if not 0 < width <= _WIDEST:
        raise FormatError(f"expected from 1 to {_WIDEST} features, {width} came", row)


def _is_sparse(tensor: Tensor) -> bool:
    """A sparse row has keys; one of zeros alone has neither keys nor values, and its shape shows it."""
    return bool(tensor.keys) or (not tensor.values and bool(tensor.shape))


def _tensor(values: Mapping[str, Value], what: str, row: int) -> Tensor:
    if _KEY not in values:
        came = ", ".join(repr(key) for key in values) or "none"
        raise FormatError(f"expected a {what} tensor under the key {_KEY!r}, keys that came: {came}", row)
    value = values[_KEY]
    match value.WhichOneof("value"):
        case "float32_tensor":
            return value.float32_tensor
        case "float64_tensor":
            return value.float64_tensor
        case "int32_tensor":
            return value.int32_tensor
        case other:
            raise FormatError(f"expected a {what} tensor of numbers, {other or 'nothing'} came", row)


def _values(tensor: Tensor) -> Numbers:
    if isinstance(tensor, Int32Tensor):
        return np.fromiter(tensor.values, np.int32, len(tensor.values))
    dtype = np.dtype("<f4" if isinstance(tensor, Float32Tensor) else "<f8")
    if not tensor.values:
        return np.empty(0, dtype)
    # A tensor of values alone serialises to a tag, a length and the packed numbers: copying these is several times
    # faster than iterating over them. Whatever else a tensor holds makes it longer than that.
    packed, size = tensor.SerializeToString(), len(tensor.values) * dtype.itemsize
    prefix = 1 + -(-size.bit_length() // 7)
    if len(packed) != prefix + size:
        packed = type(tensor)(values=tensor.values).SerializeToString()
    return np.frombuffer(packed[prefix:], dtype)


def _label(record: Record, row: int) -> Numbers:
    values = _values(_tensor(record.label, "label", row))
    if len(values) != 1:
        raise FormatError(f"expected one label, {len(values)} came", row)
    return values


def encode(features: NDArray[np.floating], labels: NDArray[np.floating] | None = None) -> bytes:
    """Encodes rows as dense float tensors, as SageMaker's SDK writes them.

    Args:
        features: (n, d) float32 or float64.
        labels: (n,) float32 or float64; None writes records without a label.
    """
    return b"".join(
        frame(
            Record(
                features={_KEY: _value(row)},
                label={_KEY: _value(labels[i : i + 1])} if labels is not None else None,
            ).SerializeToString()
        )
        for i, row in enumerate(features)
    )


def encode_answers(columns: Mapping[str, Column]) -> bytes:
    """Encodes one record a row, whose label map holds a tensor for each column.

    Args:
        columns: a number, an array or a list of text for every row, by name. float32 becomes a float32_tensor,
            other numbers a float64_tensor, text bytes in UTF-8.
    """
    if (table := answer_records.encode(columns)) is not None:
        return table
    return b"".join(
        frame(Record(label={name: _value(value) for name, value in zip(columns, row, strict=True)}).SerializeToString())
        for row in zip(*columns.values(), strict=True)
    )


def _value(values: np.generic | NDArray[np.generic] | list[str]) -> Value:
    if isinstance(values, list):
        return Value(bytes=Bytes(value=[text.encode() for text in values]))
    numbers = np.atleast_1d(values)
    if numbers.dtype == np.float32:
        return Value(float32_tensor=Float32Tensor(values=numbers.tolist()))
    return Value(float64_tensor=Float64Tensor(values=numbers.tolist()))
