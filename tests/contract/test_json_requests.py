"""The shapes of a JSON instance; the distances in the answer show what was read."""

import json

import numpy as np
import pytest

DIMENSION = 4
FEATURES = [0.0, 1.5, 0.0, -2.0]
SHAPES = {
    "features": {"features": FEATURES},
    "data, features": {"data": {"features": FEATURES}},
    "data, features, values": {"data": {"features": {"values": FEATURES}}},
    "data, features, values and shape": {"data": {"features": {"values": FEATURES, "shape": [4]}}},
    "sparse": {"data": {"features": {"keys": [1, 3], "shape": [4], "values": [1.5, -2.0]}}},
    "sparse, keys in another order": {"data": {"features": {"keys": [3, 1], "shape": [4], "values": [-2.0, 1.5]}}},
    "sparse, shape of a matrix": {"data": {"features": {"keys": [1, 3], "shape": [1, 4], "values": [1.5, -2.0]}}},
    "with a configuration": {"data": {"features": {"values": FEATURES}}, "configuration": {}},
    "whole numbers among the others": {"features": [0, 1.5, 0, -2]},
}
ZEROS = {
    "dense": {"features": [0, 0, 0, 0]},
    "sparse without keys": {"data": {"features": {"keys": [], "shape": [4], "values": []}}},
    "sparse with a shape alone": {"data": {"features": {"shape": [4], "values": []}}},
}
LINES = "application/jsonlines"
# Squared distances from FEATURES, and from the zero row, to the rows of the model.
TO_FEATURES = [0.0, 6.25, 8.25]
TO_ZEROS = [0.0, 2.0, 6.25]


@pytest.fixture(scope="module")
def client(serve_rows):
    return serve_rows([[0, 1.5, 0, -2], [0, 0, 0, 0], [1, 0, 1, 0]], [1, 2, 3])


@pytest.fixture
def distances(client, parse):
    """Sends a body and gives each row's distances."""

    def distances_(body, content_type="application/json"):
        headers = {"Accept": "application/json; verbose=true"}
        response = client.post("/invocations", data=body, content_type=content_type, headers=headers)
        assert response.status_code == 200, response.get_data()
        return [answer["distances"].tolist() for answer in parse(response)]

    return distances_


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_the_same_row(distances, shape):
    assert distances(json.dumps({"instances": [SHAPES[shape]]})) == [TO_FEATURES]
    assert distances(json.dumps(SHAPES[shape]), LINES) == [TO_FEATURES]


@pytest.mark.parametrize("shape", ZEROS)
def test_a_row_of_zeros_alone_is_a_row(distances, shape):
    assert distances(json.dumps({"instances": [ZEROS[shape]]})) == [TO_ZEROS]
    assert distances(json.dumps(ZEROS[shape]), LINES) == [TO_ZEROS]


@pytest.mark.parametrize("content_type", ["application/json", LINES])
def test_shapes_may_be_mixed_in_one_request(distances, content_type):
    instances = [*SHAPES.values(), *ZEROS.values()]
    body = "\n".join(map(json.dumps, instances)) if content_type == LINES else json.dumps({"instances": instances})
    assert distances(body, content_type) == [TO_FEATURES] * len(SHAPES) + [TO_ZEROS] * len(ZEROS)


@pytest.mark.parametrize(
    "body",
    [
        b'{"features":[0,0,0,0]}\n{"features":[0,1.5,0,-2]}',
        b'{"features":[0,0,0,0]}\n{"features":[0,1.5,0,-2]}\n',
        b'{"features":[0,0,0,0]}\r\n{"features":[0,1.5,0,-2]}\r\n',
        b'{"features":[0,0,0,0]}\n\n{"features":[0,1.5,0,-2]}\n\n',
        b'\n {"features": [0, 0, 0, 0]} \n\t{"features": [0, 1.5, 0, -2]}\n \r\n',
    ],
    ids=["no last newline", "newline", "CRLF", "blank lines", "spaces"],
)
def test_lines_may_end_as_they_like(distances, body):
    assert distances(body, LINES) == [TO_ZEROS, TO_FEATURES]


def test_the_document_may_have_other_keys(distances):
    assert distances(b'{"configuration": {}, "instances": [{"features": [0, 0, 0, 0]}], "x": true}') == [TO_ZEROS]


@pytest.mark.parametrize("number", ["1e0", "1E0", "1.0e-0", "10e-1", "0.1e1", "1"])
def test_numbers_are_those_of_json(distances, number):
    # Distances from (1, 0, 1, 0) to the third row, the zero row and the first.
    assert distances(f'{{"instances": [{{"features": [{number}, 0, {number}, 0]}}]}}') == [[0.0, 2.0, 8.25]]


def test_whole_numbers_beyond_64_bits_are_numbers(serve_rows):
    body = b'{"instances": [{"features": [100000000000000000000]}]}'
    headers = {"Accept": "application/json; verbose=true"}
    client = serve_rows([[0], [1], [3]], [1, 2, 3], k=1)
    response = client.post("/invocations", data=body, content_type="application/json", headers=headers)
    assert response.status_code == 200
    # (1e20)² is outside float32, whose largest number answers for it.
    assert response.get_json()["predictions"][0]["distances"] == [pytest.approx(np.finfo(np.float32).max)]


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        ("application/json", b'{"predictions":[]}'),
        ("application/json; verbose=true", b'{"predictions":[]}'),
        ("application/jsonlines", b""),
        ("application/x-recordio-protobuf; verbose=true", b""),
        ("text/csv; verbose=true", b""),
    ],
)
def test_no_instances_are_answered_with_no_predictions(client, accept, body):
    response = client.post(
        "/invocations", data=b'{"instances": []}', content_type="application/json", headers={"Accept": accept}
    )
    assert (response.status_code, response.get_data()) == (200, body)
