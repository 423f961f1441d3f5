"""`application/json` and `application/jsonlines`: instances in, predictions out.

The shapes of an instance are those of SageMaker's "Common Data Formats for Inference": `{"features": [...]}`,
`{"data": {"features": [...]}}`, `{"data": {"features": {"values": [...]}}}` and the sparse form with `keys` and
`shape`; one request may mix them.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import orjson

from knn_container.batch import Column, Features, SparseRows, check_width, finite_float32, sparse_width
from knn_container.errors import FormatError
from knn_container.formats import plain_instances

_SHAPES = (
    'expected {"features": [numbers]}, {"data": {"features": {"values": [numbers]}}} or the latter with keys and shape'
)


def decode_request(body: bytes, width: int) -> Features:
    """Decodes `{"instances": [...]}`.

    Args:
        body: the whole request.
        width: features in a row.

    Returns:
        (n, width) features, as `SparseRows` if one of them is sparse.

    Raises:
        FormatError: not JSON, or an instance that is not a row of `width` numbers; rows count from 1.
    """
    if not body.strip():
        raise FormatError('expected {"instances": [...]}, an empty body came')
    if (table := plain_instances.decode(body, width)) is not None:
        with suppress(FormatError):  # which is raised again below
            return finite_float32(table, 1)
    document = _loads(body, None)
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list):
        raise FormatError(f'expected {{"instances": [...]}}, {_describe(document)} came')
    return _rows(instances, range(1, len(instances) + 1), width)


def decode_lines(body: bytes, width: int) -> Features:
    """Decodes one instance a line; blank lines are passed over.

    Raises:
        FormatError: as `decode_request`; rows count from 1, one for each line.
    """
    lines = [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise FormatError("expected one JSON instance a line, an empty body came")
    if (table := plain_instances.decode_lines([line for _, line in lines], width)) is not None:
        with suppress(FormatError):  # which is raised again below, with the line's number
            return finite_float32(table, 1)
    instances = [_loads(line, number) for number, line in lines]
    return _rows(instances, [number for number, _ in lines], width)


def encode(columns: Mapping[str, Column]) -> bytes:
    """Writes `{"predictions": [...]}`, one object a row with a key for each column.

    Args:
        columns: one number or one array for every row, by name.
    """
    return orjson.dumps({"predictions": _objects(columns)}, option=orjson.OPT_SERIALIZE_NUMPY)


def encode_lines(columns: Mapping[str, Column]) -> bytes:
    """Writes one object a line, each ended by a newline."""
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return b"".join(orjson.dumps(row, option=option) for row in _objects(columns))


def encode_error(status: int, reason: str) -> bytes:
    """Writes an error's body."""
    return orjson.dumps({"error": reason, "status": status})


def _objects(columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _loads(text: bytes, row: int | None) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error}", row) from error


def _rows(instances: list[Any], numbers: Sequence[int], width: int) -> Features:
    if not instances:
        return np.empty((0, width), np.float32)
    vectors = [_vector(instance, width, row) for instance, row in zip(instances, numbers, strict=True)]
    values = [vector[0] for vector in vectors]
    # Looked at before numpy sees them: it reads true as 1, and gives every number the room of the longest text.
    if not {type(value) for vector in values for value in vector} <= {int, float}:
        for vector, row in zip(values, numbers, strict=True):
            _check_numbers(vector, row)
    if all(keys is None for _, keys in vectors):
        try:
            return finite_float32(np.array(values, np.float64), 0)
        except FormatError as error:
            raise FormatError(error.reason, numbers[error.row or 0]) from None
    rows = [
        finite_float32(np.array([vector], np.float64).reshape(1, -1), row)[0]
        for vector, row in zip(values, numbers, strict=True)
    ]
    return SparseRows.of(rows, [range(width) if keys is None else keys for _, keys in vectors], width)


def _vector(instance: Any, width: int, row: int) -> tuple[list[Any], list[int] | None]:
    """Finds the values in an instance, whatever its shape, and their columns if it is sparse."""
    if not isinstance(instance, dict):
        raise FormatError(f"{_SHAPES}, {_describe(instance)} came", row)
    features = instance.get("features")
    if features is None and isinstance(instance.get("data"), dict):
        features = instance["data"].get("features")
    if isinstance(features, dict):
        return _tensor(features, width, row)
    if not isinstance(features, list):
        raise FormatError(f"{_SHAPES}, {_describe(instance)} came", row)
    check_width(len(features), width, row)
    return features, None


def _tensor(tensor: dict[str, Any], width: int, row: int) -> tuple[list[Any], list[int] | None]:
    values, keys, shape = tensor.get("values"), tensor.get("keys"), tensor.get("shape")
    if not isinstance(values, list):
        raise FormatError(f"{_SHAPES}, features without values came", row)
    if not keys and (values or not shape):
        check_width(len(values), width, row)
        return values, None
    if not isinstance(keys or [], list) or not isinstance(shape, list) or not shape:
        raise FormatError("a sparse instance needs keys, shape and values, each a list", row)
    keys = keys or []
    if not all(type(number) is int and number >= 0 for number in [*keys, *shape]):
        raise FormatError("the keys and the shape of a sparse instance are whole numbers from 0", row)
    check_width(sparse_width(keys, shape, len(values), row), width, row)
    return values, keys


def _check_numbers(values: list[Any], row: int) -> None:
    for column, value in enumerate(values, 1):
        if type(value) not in (int, float):
            raise FormatError(f"feature {column} is {_describe(value)}, expected a number", row)


def _describe(value: Any) -> str:
    match value:
        case dict():
            return f"an object with the keys {', '.join(map(repr, value)) or 'none'}"[:120]
        case list():
            return f"a list of {len(value)}"
        case None:
            return "null"
        case _:
            return orjson.dumps(value).decode()[:60]
