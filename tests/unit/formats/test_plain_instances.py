"""Instances read together are those that are read one by one."""

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from knn_container.batch import dense
from knn_container.errors import FormatError
from knn_container.formats import json, plain_instances

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(
        ["0", "-0", "-0.0", "1e5", "1E-3", "1e400", "01", "+1", ".5", "nan", "true", "null", '"1"', "[1]", "{}"]
    ),
)
ROWS = st.lists(NUMBERS | st.integers(0, 9).map(str), min_size=2, max_size=2).map(lambda it: f"[{', '.join(it)}]")
SHAPES = ['{"features": %s}', '{"data": {"features": %s}}', '{"data": {"features": {"values": %s}}}']
ODD = [
    '{"features": %s, "uid": "["}',
    '{"features": %s, "features": [7, 8]}',
    '{"features": [7, 8], "features": %s}',
    '{"data": {"features": [7, 8]}, "features": %s}',
    '{"data": {"features": {"values": %s, "keys": [0, 1], "shape": [2]}}}',
    '{"data": {"features": %s}, "data": {"features": [7, 8]}}',
    '{"features": {"values": %s}}',
    '{"features": %s}, {"features": [7, 8]}',
    '{"features": %s, "features": 3}',
    '{"data": {"features": %s}, "features": 3}',
    '{"data": {"features": {"values": %s}, "features": 3}}',
    '{"f": %s}',
    "%s",
    '\n{"features": %s}\r',
    '{"features": %s, \n "x": 1}',
    "{%s",
]


@st.composite
def texts(draw):
    """Instances mostly of one shape."""
    shape = draw(st.sampled_from(SHAPES))
    rows = draw(st.lists(ROWS, max_size=5))
    return [(draw(st.sampled_from([*[shape] * 20, *SHAPES, *ODD]))).replace("%s", row) for row in rows]


def outcome(decode, body):
    try:
        return dense(decode(body, 2)).tobytes()
    except FormatError as error:
        return str(error), error.row


def check(decode, body):
    found = outcome(decode, body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_instances, "decode", lambda *_: None)
        patch.setattr(plain_instances, "decode_lines", lambda *_: None)
        assert found == outcome(decode, body)


@settings(max_examples=500)
@example(['{"features": [1, 2], "features": 3}'], '{"instances": [%s]}')
@example(['{"data": {"features": [1, 2]}, "features": 3}'], '{"instances": [%s]}')
@given(
    texts(),
    st.sampled_from(
        ['{"instances": [%s]}'] * 9
        + ['{"instances": [], "instances": [%s]}', '\ufeff{"instances": [%s]}', '{"instances": [%s], "k": 1}']
    ),
)
def test_a_request_is_read_as_its_instances_one_by_one(instances, document):
    check(json.decode_request, document.replace("%s", ", ".join(instances)).encode())


@settings(max_examples=500)
@given(texts(), st.sampled_from(["\n", "\r\n", "\n\n"]))
@example(['{"features": [1, 2]}, {"features": [3,', "4]}"], "\n")
@example(['{"features": [1, 2]}, {"features":', "[3, 4]}"], "\n")
@example(['{"data":', '{"features": [1, 2]}}, {"data": {"features": [3, 4]}}'], "\n")
def test_lines_are_read_as_instances_one_by_one(instances, end):
    check(json.decode_lines, end.join(instances).encode())


@given(
    st.lists(st.lists(st.floats(-1e30, 1e30) | st.integers(-9, 9), min_size=2, max_size=2), min_size=1),
    st.sampled_from(SHAPES),
)
def test_usual_instances_are_read_together(rows, shape):
    instances = [shape.replace("%s", orjson.dumps(row).decode()).encode() for row in rows]
    body = b'{"instances":[%b]}' % b",".join(instances)
    np.testing.assert_array_equal(plain_instances.decode(body, 2), np.array(rows, float))
    np.testing.assert_array_equal(plain_instances.decode_lines(instances, 2), np.array(rows, float))
    assert plain_instances.decode(body, 3) is None
