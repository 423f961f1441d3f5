"""Small requests on a connection that is kept, which are answered without Flask: as those that go the usual way."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

RECORDIO = "application/x-recordio-protobuf"


def plain(body, *lines, content_type="text/csv"):
    head = ("POST /invocations HTTP/1.1", "Host: x", f"Content-Type: {content_type}", *lines)
    return "\r\n".join((*head, f"Content-Length: {len(body)}", "", "")).encode() + body


def receive(stream):
    status = int(stream.readline().split()[1])
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, stream.read(int(headers["content-length"]))


@pytest.fixture
def kept(server):
    """A connection that has had an answer, and so is offered the short way: sends bytes, gives the response."""
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert receive(stream)[0] == 200
        time.sleep(0.1)  # the connection is being watched

        def ask(*pieces):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.1 * (len(pieces) > 1))
            return receive(stream)

        yield ask


def bodies(digits, csv, recordio):
    rows = digits.test_rows[:3]
    instances = [{"features": row.tolist()} for row in rows]
    return [
        ("text/csv", csv(rows)),
        ("application/json", json.dumps({"instances": instances}).encode()),
        ("application/jsonlines", "\n".join(map(json.dumps, instances)).encode()),
        (RECORDIO, recordio.rows(rows)),
    ]


@pytest.mark.parametrize("accept", ["application/json", "application/jsonlines", RECORDIO, "text/csv", "*/*", None])
@pytest.mark.parametrize("options", ["", "; verbose=true", '; k=2; output="predicted_label,ids,probability"'])
def test_the_answer_is_that_of_the_usual_way(server, kept, digits, csv, recordio, accept, options):
    lines = [f"Accept: {accept}{options}"] if accept else []
    for content_type, body in bodies(digits, csv, recordio):
        short = kept(plain(body, *lines, content_type=content_type))
        # Connection: close is not plain.
        usual = kept_once(server, plain(body, *lines, "Connection: close", content_type=content_type))
        assert (short[0], short[2]) == (usual[0], usual[2])
        assert short[0] == 200
        assert short[1]["content-type"] == usual[1]["content-type"]
        assert (short[1]["connection"], usual[1]["connection"]) == ("keep-alive", "close")
        assert set(short[1]) == set(usual[1])


def kept_once(server, request):
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(request)
        return receive(stream)


def test_custom_attributes_count_and_come_back(kept, digits, csv):
    status, headers, body = kept(
        plain(csv(digits.test_rows[:1]), "X-Amzn-SageMaker-Custom-Attributes: verbose=true; mine=1")
    )
    assert (status, headers["x-amzn-sagemaker-custom-attributes"]) == (200, "verbose=true; mine=1")
    assert "distances" in json.loads(body)["predictions"][0]


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        (plain(b"x\n"), 400, "expected a number"),
        (plain(b"1,2\n"), 400, "expected 64 features"),
        (plain(b""), 400, "empty body"),
        (plain(b"1\n", content_type="text/html"), 415, "Content-Type"),
        (plain(b"1\n", "Accept: image/png"), 406, "Accept"),
        (plain(b"0," * 63 + b"0\n", "Accept: application/json; k=6"), 400, "at most the model's 5"),
        (plain(b"0," * 63 + b"0\n").replace(b"/invocations", b"/nowhere"), 404, "Not Found"),
    ],
)
def test_what_cannot_be_answered_with_200_gets_the_usual_status(kept, request_, status, text):
    came, headers, body = kept(request_)
    assert (came, json.loads(body)["status"]) == (status, status)
    assert text in json.loads(body)["error"]
    assert headers["connection"] == "close"


def test_a_request_in_pieces_is_answered_like_a_whole_one(kept, digits, csv):
    whole = plain(csv(digits.test_rows[:1]))
    answers = [kept(whole), kept(whole[:20], whole[20:]), kept(whole[:-5], whole[-5:]), kept(whole)]
    assert [status for status, _, _ in answers] == [200] * 4
    assert len({body for _, _, body in answers}) == 1


def test_requests_sent_ahead_are_answered_in_their_order(server, digits, csv):
    rows = [csv(row[np.newaxis]) for row in digits.test_rows[:40]]
    alone = [server.invoke(row, accept="text/csv; verbose=true").content for row in rows]
    requests = [plain(row, "Accept: text/csv; verbose=true") for row in rows]
    with server.connect() as connection, connection.makefile("rb") as stream:
        for start in range(0, len(requests), 4):
            connection.sendall(b"".join(requests[start : start + 4]))
        assert [receive(stream)[2] for _ in requests] == alone


def test_many_connections_get_their_own_answers(server, digits, csv):
    rows = [csv(row[np.newaxis]) for row in digits.test_rows[:32]]
    alone = [server.invoke(row, accept="text/csv; verbose=true").content for row in rows]
    headers = {"Content-Type": "text/csv", "Accept": "text/csv; verbose=true"}

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        answers = []
        for turn in range(30):
            connection.request("POST", "/invocations", rows[(number + turn) % 32], headers)
            answers.append(connection.getresponse().read() == alone[(number + turn) % 32])
        connection.close()
        return all(answers)

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(client, range(32)))


def test_a_client_that_goes_before_its_answer_harms_no_other(server, digits, csv):
    body = csv(digits.test_rows[:1])
    for _ in range(20):
        with server.connect() as connection, connection.makefile("rb") as stream:
            connection.sendall(plain(body))
            assert receive(stream)[0] == 200
            connection.sendall(plain(body))
    assert server.invoke(body).status_code == 200
