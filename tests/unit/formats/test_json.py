import json as standard
import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knn_container.batch import dense
from knn_container.errors import FormatError
from knn_container.formats import json

SHAPES = [
    '{"features": [1, 0, 2.5]}',
    '{"data": {"features": [1, 0, 2.5]}}',
    '{"features": {"values": [1, 0, 2.5]}}',
    '{"data": {"features": {"values": [1, 0, 2.5]}}}',
    '{"data": {"features": {"values": [1, 0, 2.5], "keys": [], "shape": []}}}',
    '{"data": {"features": {"keys": [0, 2], "shape": [3], "values": [1, 2.5]}}}',
    '{"data": {"features": {"keys": [2, 0], "shape": [1, 3], "values": [2.5, 1]}}}',
    '{"features": {"keys": [0, 2], "shape": [3], "values": [1, 2.5]}, "uid": "other keys are passed over"}',
]
BAD_INSTANCES = [
    ('{"features": [1, true, 2]}', "feature 2 is true"),
    ('{"features": [false, 1, 2]}', "feature 1 is false"),
    ('{"features": [1, "2", 3]}', 'feature 2 is "2"'),
    ('{"features": [1, 2, null]}', "feature 3 is null"),
    ('{"features": [1, [2], 3]}', "feature 2 is a list of 1"),
    ('{"features": [1, {}, 3]}', "feature 2 is an object"),
    ('{"features": [[1, 2, 3]]}', "expected 3 features, 1 came"),
    ('{"features": [[1], [2], [3]]}', "feature 1 is a list of 1"),
    ('{"features": [1, 1e39, 3]}', "feature 2 is 1e"),
    ('{"features": []}', "expected 3 features, 0 came"),
    ('{"features": [1, 2]}', "expected 3 features, 2 came"),
    ('{"features": [1, 2, 3, 4]}', "expected 3 features, 4 came"),
    ('{"features": {"values": [1, true, 2]}}', "feature 2 is true"),
    ('{"features": {"values": [true], "keys": [0], "shape": [3]}}', "true"),
    ('{"features": {"values": ["1"], "keys": [0], "shape": [3]}}', '"1"'),
    ('{"features": {"values": [1], "keys": [3], "shape": [3]}}', "outside its 3 columns"),
    ('{"features": {"values": [1], "keys": [-1], "shape": [3]}}', "whole numbers from 0"),
    ('{"features": {"values": [1], "keys": [0.0], "shape": [3]}}', "whole numbers from 0"),
    ('{"features": {"values": [1], "keys": [true], "shape": [3]}}', "whole numbers from 0"),
    ('{"features": {"values": [1], "keys": [0], "shape": [4]}}', "expected 3 features, 4 came"),
    ('{"features": {"values": [1], "keys": [0], "shape": [2, 3]}}', r"shape of one row"),
    ('{"features": {"values": [1], "keys": [0, 1], "shape": [3]}}', "2 keys and 1 values"),
    ('{"features": {"values": [1, 2], "keys": [1, 1], "shape": [3]}}', "twice"),
    ('{"features": {"values": [1], "keys": [0]}}', "keys, shape and values"),
    ('{"features": {"values": [1], "keys": [0], "shape": 3}}', "keys, shape and values"),
    ('{"features": {"keys": [0], "shape": [3]}}', "features without values"),
    ('{"features": "1,2,3"}', "expected"),
    ('{"data": {}}', "'data' came"),
    ('{"data": [1, 2, 3]}', "'data' came"),
    ("{}", "none came"),
    ("[1, 2, 3]", "a list of 3 came"),
    ("1", "1 came"),
    ("null", "null came"),
]


def request(*instances: str, width: int = 3):
    return dense(json.decode_request(b'{"instances": [%s]}' % ", ".join(instances).encode(), width))


def lines(*instances: str, width: int = 3):
    return dense(json.decode_lines("\n".join(instances).encode(), width))


@pytest.mark.parametrize("decode", [request, lines])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_instance_of_every_shape_is_read(decode, shape):
    rows = decode(shape)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 0, 2.5]]


@pytest.mark.parametrize("decode", [request, lines])
def test_one_request_mixes_all_shapes(decode):
    rows = decode(*SHAPES, '{"features": {"values": [], "shape": [3]}}')
    np.testing.assert_array_equal(rows, [[1, 0, 2.5]] * len(SHAPES) + [[0, 0, 0]])


def test_other_keys_of_a_request_are_passed_over():
    body = b'{"configuration": {"true": true}, "instances": [{"features": [1, 2]}]}'
    assert dense(json.decode_request(body, 2)).tolist() == [[1, 2]]


def test_no_instances_are_no_rows():
    assert request(width=7).shape == (0, 7)


def test_lines_may_be_blank_and_end_as_on_windows():
    assert lines('{"features": [1]}\r', "", "  ", '{"features": [2]}', "", width=1).tolist() == [[1], [2]]


@pytest.mark.parametrize("good", [SHAPES[0], '{"features": [1, 2, 3]}'], ids=["floats", "integers"])
@pytest.mark.parametrize(("bad", "words"), BAD_INSTANCES)
def test_a_bad_instance_is_named_with_its_feature(good, bad, words):
    with pytest.raises(FormatError) as caught:
        request(good, good, bad, good)
    assert caught.value.row == 3
    assert words in caught.value.reason
    with pytest.raises(FormatError) as caught:
        lines(good, "", bad)
    assert caught.value.row == 3
    assert words in caught.value.reason


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty body"),
        (b" \n", "empty body"),
        (b"[1, 2]", "a list of 2 came"),
        (b"{}", "none came"),
        (b'{"instances": {}}', "'instances' came"),
        (b'{"instances": null}', "'instances' came"),
        (b"7", "7 came"),
        (b'"text"', '"text" came'),
        (b"null", "null came"),
        (b"{", "not JSON"),
        (b"1,2,3", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"instances": [{"features": [NaN]}]}', "not JSON"),
        (b'{"instances": [{"features": [1]}]} x', "not JSON"),
        (b'{"instances": ' + b"[" * 5000, "not JSON"),
    ],
)
def test_a_body_that_is_no_request_is_refused(body, words):
    with pytest.raises(FormatError) as caught:
        json.decode_request(body, 1)
    assert words in caught.value.reason


@pytest.mark.parametrize(("body", "row"), [(b"", None), (b"\n\n", None), (b'{"features": [1]}\n\n{', 3)])
def test_lines_that_are_not_json_are_named(body, row):
    with pytest.raises(FormatError) as caught:
        json.decode_lines(body, 1)
    assert caught.value.row == row


@pytest.mark.parametrize("beside", [None, "0.5", "-1", "18446744073709551615"])
@settings(max_examples=100)
@given(
    number=st.one_of(st.floats(-3e38, 3e38), st.integers(-(2**63), 2**64 - 1), st.just(9007199791611905)),
)
def test_numbers_are_rounded_to_float64_and_then_to_float32_whatever_is_beside_them(beside, number):
    instances = [f'{{"features": [{text}]}}' for text in (repr(number), beside) if text]
    expected = np.array([float(number)]).astype(np.float32)
    np.testing.assert_array_equal(request(*instances, width=1)[0], expected)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([1, 2])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["instances", "data", "features", "values", "keys", "shape"]), inner),
    ),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.one_of(values.map(lambda v: standard.dumps({"instances": v}).encode()), st.binary(max_size=30)))
def test_any_bytes_give_rows_or_format_errors_alone(body):
    for decode in (json.decode_request, json.decode_lines):
        with suppress(FormatError):
            assert np.isfinite(dense(decode(body, 2))).all()


@settings(max_examples=200)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("values", "keys", "shape"), values)))
def test_any_tensor_gives_a_row_or_a_format_error(tensor):
    with suppress(FormatError):
        assert request(standard.dumps({"features": tensor}), width=2).shape == (1, 2)


def test_predictions_have_a_key_for_each_column():
    columns = {
        "predicted_label": [np.float32(1), np.float64(0.1)],
        "distances": [np.array([0.1, 2], np.float32), np.array([1 / 3])],
    }
    rows = '{"predicted_label":1.0,"distances":[0.1,2.0]}', '{"predicted_label":0.1,"distances":[0.3333333333333333]}'
    assert json.encode(columns) == f'{{"predictions":[{",".join(rows)}]}}'.encode()
    assert json.encode_lines(columns) == "".join(row + "\n" for row in rows).encode()


def test_no_predictions_are_an_empty_list():
    assert json.encode({"predicted_label": []}) == b'{"predictions":[]}'
    assert json.encode_lines({"predicted_label": []}) == b""


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_written_in_their_shortest_exact_form(narrow, wide):
    body = json.encode({"a": [np.float32(narrow)], "b": [np.float64(wide)]}).decode()
    written = standard.loads(body, parse_float=str)["predictions"][0]
    assert np.float32(written["a"]) == np.float32(narrow)
    assert float(written["b"]) == wide
    assert math.isclose(float(written["a"]), float(str(np.float32(narrow))), rel_tol=1e-15)
    assert digits(written["a"]) == digits(str(np.float32(narrow)))  # numpy writes the shortest form too
    assert digits(written["b"]) == digits(repr(wide))


def digits(number: str) -> str:
    """The digits that count, whatever the exponent."""
    return number.lower().split("e")[0].replace("-", "").replace(".", "").strip("0")


def test_an_error_has_its_reason_and_status():
    assert standard.loads(json.encode_error(415, 'a "reason"')) == {"error": 'a "reason"', "status": 415}
