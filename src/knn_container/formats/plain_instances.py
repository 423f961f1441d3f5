"""Dense JSON instances of one shape, read without making a Python object of each number; others are left.

What simdjson would read otherwise than the careful parser, such as a key that comes twice, is left to that too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import simdjson

from knn_container.batch import Float64Array

_BARE, _IN_DATA, _IN_TENSOR = ("features",), ("data", "features"), ("data", "features", "values")
_UNUSUAL = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)  # raised by simdjson, or by its use


def decode(body: bytes, width: int) -> Float64Array | None:
    """Reads `{"instances": [...]}`.

    Returns:
        (n, width), at least one row; None where an instance is not a dense row of `width` numbers, shaped as the first.
    """
    if not body.startswith(b"{"):
        return None
    try:
        document: Any = simdjson.Parser().parse(body)
        return _rows(document["instances"], body.count(b"["), width) if len(document) == 1 else None
    except _UNUSUAL:
        return None


def decode_lines(lines: list[bytes], width: int) -> Float64Array | None:
    """Reads one instance a line; returns as `decode`.

    Args:
        lines: none of them blank.
        width: features in a row.
    """
    # After the comma put in front of it, such a line can only begin an instance.
    if not all(line.startswith(b"{") for line in lines):
        return None
    body = b"[%b]" % b",".join(lines)
    try:
        rows = _rows(simdjson.Parser().parse(body), body.count(b"["), width)
    except _UNUSUAL:
        return None
    return rows if rows is not None and len(rows) == len(lines) else None


def _rows(instances: Any, lists: int, width: int) -> Float64Array | None:
    """Reads an array of instances.

    Args:
        instances: simdjson's.
        lists: how many there are in the text; if that is one a row, none is in another.
        width: features in a row.

    Raises:
        one of `_UNUSUAL`: an instance is not of the first one's shape.
    """
    count = len(instances)
    if lists != count + 1 or not count:
        return None
    path = _path(instances[0])
    buffers = []
    for instance in instances:
        values = instance
        for key in path:
            if len(values) != 1:  # another key beside it, or it twice
                return None
            values = values[key]
        buffers.append(values.as_buffer(of_type="d"))
    if any(buffer.size != 8 * width for buffer in buffers):
        return None
    return np.frombuffer(b"".join(buffers), np.float64).reshape(count, width)


def _path(instance: Any) -> Sequence[str]:
    """The keys that lead to an instance's numbers."""
    if "data" not in instance:
        return _BARE
    return _IN_DATA if isinstance(instance["data"]["features"], simdjson.Array) else _IN_TENSOR
