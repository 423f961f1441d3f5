"""Every request type with every answer type: the same rows have the same answers, which are those of numpy."""

import json

import numpy as np
import pytest

ROWS = 60
ANSWERS = ["application/json", "application/jsonlines", "application/x-recordio-protobuf", "text/csv"]


@pytest.fixture(scope="module")
def queries(digits):
    return digits.test_rows[:ROWS]


@pytest.fixture(scope="module")
def expected(digits, queries, expect):
    return expect(digits.train_rows, digits.train_labels, queries, k=5)


@pytest.fixture(scope="module")
def requests(queries, csv, recordio):
    instances = [{"features": row} for row in queries.astype(np.float64).tolist()]
    return {
        "text/csv": csv(queries),
        "application/json": json.dumps({"instances": instances}).encode(),
        "application/jsonlines": "\n".join(map(json.dumps, instances)).encode(),
        "application/x-recordio-protobuf": recordio.rows(queries),
    }


@pytest.fixture
def ask(client, requests, parse):
    """Sends the rows in one type, and gives the answers in another."""

    def ask_(content_type, accept):
        headers = {"Accept": accept}
        response = client.post("/invocations", data=requests[content_type], content_type=content_type, headers=headers)
        assert (response.status_code, response.content_type) == (200, accept.partition(";")[0])
        return parse(response)

    return ask_


@pytest.mark.parametrize("accept", ANSWERS)
@pytest.mark.parametrize(
    "content_type", ["text/csv", "application/json", "application/jsonlines", "application/x-recordio-protobuf"]
)
class TestEveryPair:
    def test_predictions_are_those_of_numpy(self, ask, expected, content_type, accept):
        answers = ask(content_type, accept)
        assert [set(answer) for answer in answers] == [{"predicted_label"}] * ROWS
        np.testing.assert_array_equal([answer["predicted_label"][0] for answer in answers], expected.predicted)

    def test_verbose_adds_the_labels_and_distances_of_numpy(self, ask, expected, content_type, accept):
        answers = ask(content_type, f"{accept}; verbose=true")
        assert [set(answer) for answer in answers] == [{"predicted_label", "distances", "labels"}] * ROWS
        np.testing.assert_array_equal([answer["predicted_label"][0] for answer in answers], expected.predicted)
        np.testing.assert_array_equal([answer["labels"] for answer in answers], expected.labels)
        distances = np.array([answer["distances"] for answer in answers])
        np.testing.assert_array_equal(distances.astype(np.float32), expected.distances)


@pytest.mark.parametrize("content_type", ["TEXT/CSV", "text/csv; label_size=0", "Text/Csv;Label_Size=0;charset=UTF-8"])
def test_the_request_type_is_read_as_a_mime_header(client, requests, expected, parse, content_type):
    response = client.post("/invocations", data=requests["text/csv"], content_type=content_type)
    assert response.status_code == 200
    np.testing.assert_array_equal([row["predicted_label"][0] for row in parse(response)], expected.predicted)


def test_the_type_of_json_lines_may_be_in_upper_case(client, requests, expected, parse):
    body = requests["application/jsonlines"]
    response = client.post("/invocations", data=body, content_type="application/JSONLINES; charset=utf-8")
    assert response.status_code == 200
    np.testing.assert_array_equal([row["predicted_label"][0] for row in parse(response)], expected.predicted)


def test_a_row_alone_is_answered_as_in_a_batch(client, queries, recordio):
    headers = {"Accept": "application/jsonlines; verbose=true"}
    kind = "application/x-recordio-protobuf"
    together = client.post("/invocations", data=recordio.rows(queries), content_type=kind, headers=headers)
    alone = [
        client.post("/invocations", data=recordio.rows(queries[i : i + 1]), content_type=kind, headers=headers)
        for i in range(ROWS)
    ]
    assert b"".join(response.get_data() for response in alone) == together.get_data()
