"""The bytes of an answer, from models small enough to work out by hand."""

import json

import numpy as np
import pytest

JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"
RECORDIO = "application/x-recordio-protobuf"
ABOVE_FLOAT32 = [16777217, 16777219, 2000000001]  # the first whole numbers that float32 rounds, and one far above


def ask(client, body, accept):
    response = client.post("/invocations", data=body, content_type="text/csv", headers={"Accept": accept})
    assert response.status_code == 200, response.get_data()
    return response.get_data()


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        (JSON, b'{"predictions":[{"predicted_label":20.0},{"predicted_label":20.0}]}'),
        (
            f"{JSON}; verbose=true",
            b'{"predictions":[{"predicted_label":20.0,"distances":[1.0,1.0,4.0],"labels":[20.0,20.0,10.0]},'
            b'{"predicted_label":20.0,"distances":[0.25,12.25,30.25],"labels":[30.0,20.0,20.0]}]}',
        ),
        (LINES, b'{"predicted_label":20.0}\n{"predicted_label":20.0}\n'),
        (
            f"{LINES}; verbose=true",
            b'{"predicted_label":20.0,"distances":[1.0,1.0,4.0],"labels":[20.0,20.0,10.0]}\n'
            b'{"predicted_label":20.0,"distances":[0.25,12.25,30.25],"labels":[30.0,20.0,20.0]}\n',
        ),
        (CSV, b"20.0\n20.0\n"),
        (f"{CSV}; verbose=true", b"20.0,20.0,20.0,10.0,1.0,1.0,4.0\n20.0,30.0,20.0,20.0,0.25,12.25,30.25\n"),
        (
            RECORDIO,
            # magic, length 29, label {"predicted_label": {float32_tensor {values: 20.0}}}, padding
            2
            * (
                bytes.fromhex("0a23d7ce 1d000000 121b 0a0f")
                + b"predicted_label"
                + bytes.fromhex("1208 1206 0a04 0000a041 000000")
            ),
        ),
    ],
)
def test_the_rows_2_and_6_and_a_half_are_answered_with_these_bytes(line, accept, answer):
    assert ask(line, "2\n6.5\n", accept) == answer


def test_verbose_recordio_has_the_three_lists_in_its_label_map(line, recordio):
    assert recordio.read(ask(line, "2\n", f"{RECORDIO}; verbose=true")) == [
        {
            "predicted_label": ("float32", [20.0]),
            "distances": ("float32", [1.0, 1.0, 4.0]),
            "labels": ("float32", [20.0, 20.0, 10.0]),
        }
    ]


def test_recordio_frames_do_not_hold_each_other(line, recordio):
    together = ask(line, "2\n6.5\n2\n", f"{RECORDIO}; verbose=true")
    assert together == b"".join(ask(line, row, f"{RECORDIO}; verbose=true") for row in ("2", "6.5", "2"))


def test_an_answer_that_holds_the_magic_is_still_one_part(serve_rows, recordio):
    label = float(np.frombuffer(bytes.fromhex("0a23d7ce"), "<f4")[0])
    client = serve_rows([[0], [1]], [label, label], k=2)
    assert recordio.read(ask(client, "0\n1\n", RECORDIO)) == [{"predicted_label": ("float32", [label])}] * 2


def test_one_verbose_json_line_is_a_json_document_that_ends_in_one_newline(line):
    body = ask(line, "2", f"{LINES}; verbose=true")
    assert json.loads(body)["labels"] == [20, 20, 10]
    assert body.endswith(b"}\n")
    assert body.count(b"\n") == 1


@pytest.mark.parametrize(("query", "smallest"), [("0", b"10.0\n"), ("9.4", b"20.0\n"), ("40", b"5.0\n")])
def test_a_tie_of_votes_goes_to_the_smallest_label(serve_rows, query, smallest):
    client = serve_rows([[0], [1], [9], [10], [39], [41]], [30, 10, 20, 40, 7, 5], k=2)
    assert ask(client, query, CSV) == smallest


def test_of_rows_at_one_distance_the_first_come_first(serve_rows):
    client = serve_rows([[1], [-1], [1], [1], [-1]], [5, 4, 3, 2, 1], k=3)
    assert json.loads(ask(client, "0", f"{LINES}; verbose=true"))["labels"] == [5, 4, 3]


@pytest.mark.parametrize(
    ("query", "mean"), [("2", 3.0), ("7", 6.25), ("0.1", 1.5)], ids=["between two", "at the end", "at the start"]
)
def test_a_regressor_answers_the_mean(serve_rows, recordio, query, mean):
    client = serve_rows([[0], [1], [3], [7]], [1, 2, 4, 8.5], k=2, predictor_type="regressor")
    assert json.loads(ask(client, query, LINES)) == {"predicted_label": mean}
    assert recordio.read(ask(client, query, RECORDIO)) == [{"predicted_label": ("float32", [mean])}]


@pytest.fixture(scope="module", params=["int32 in recordio", "CSV"])
def large_labels(request, serve_rows, train, serve):
    """The rows 0, 1 and 2, with labels that float32 rounds."""
    if request.param == "CSV":
        rows = "".join(f"{label},{row}\n" for row, label in enumerate(ABOVE_FLOAT32))
        return serve(train({"train/rows.csv": rows.encode()}, k=2) / "model")
    return serve_rows([[0], [1], [2]], ABOVE_FLOAT32, label_kind="int32", k=2)


def test_text_answers_hold_large_labels_exactly(large_labels):
    assert json.loads(ask(large_labels, "2", f"{LINES}; verbose=true")) == {
        "predicted_label": 16777219.0,
        "distances": [0.0, 1.0],
        "labels": [2000000001.0, 16777219.0],
    }
    assert ask(large_labels, "0", f"{CSV}; verbose=true") == b"16777217.0,16777217.0,16777219.0,0.0,1.0\n"


def test_recordio_answers_hold_large_labels_as_float64(large_labels, recordio):
    assert recordio.read(ask(large_labels, "2", f"{RECORDIO}; verbose=true")) == [
        {
            "predicted_label": ("float64", [16777219.0]),
            "distances": ("float32", [0.0, 1.0]),
            "labels": ("float64", [2000000001.0, 16777219.0]),
        }
    ]


@pytest.mark.parametrize("kind", ["float32", "float64", "int32"])
def test_labels_that_fit_float32_are_answered_in_it_whatever_their_type(serve_rows, recordio, kind):
    client = serve_rows([[0], [1]], [16777216, 3], label_kind=kind, k=1)
    assert recordio.read(ask(client, "0", RECORDIO)) == [{"predicted_label": ("float32", [16777216.0])}]
