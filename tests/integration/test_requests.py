"""Requests over real sockets: chunks, limits, connections that are kept."""

import json

import numpy as np
import pytest
import requests

LIMIT = 100_000


@pytest.fixture(scope="module")
def small(serving, trained):
    """A server that takes bodies of 100,000 bytes."""
    with serving(trained, MAX_CONTENT_LENGTH=LIMIT) as server:
        yield server


def receive(connection):
    """Reads one response: status, headers and body."""
    with connection.makefile("rb") as stream:
        first = stream.readline()
        assert first, "the connection was closed without an answer"
        status = int(first.split()[1])
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, stream.read(int(headers["content-length"]))


def head(length=None):
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n{framing}\r\n\r\n".encode()


def chunk(content):
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_chunked_body_is_answered_as_one_with_a_length(server, digits, csv, size):
    body = csv(digits.test_rows[:5])
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    whole = server.invoke(body, accept="application/json; verbose=true")
    chunked = server.invoke(iter(chunks), accept="application/json; verbose=true")
    assert chunked.request.headers["Transfer-Encoding"] == "chunked"
    assert (chunked.status_code, chunked.content) == (200, whole.content)


def test_an_empty_chunked_body_is_400(server):
    answer = server.invoke(iter(()))
    assert answer.status_code == 400
    assert "empty body" in answer.json()["error"]


def test_a_length_above_the_limit_is_413_before_the_body_is_sent(small):
    with small.connect() as connection:
        connection.sendall(head(10**9))
        status, _, body = receive(connection)
    assert status == 413
    assert str(LIMIT) in json.loads(body)["error"]
    assert str(10**9) in json.loads(body)["error"]


def test_chunks_that_pass_the_limit_are_413_though_more_would_follow(small):
    with small.connect() as connection:
        connection.sendall(head())
        for _ in range(3):
            connection.sendall(chunk(b"0," * (LIMIT // 4)))
        status, _, body = receive(connection)
    assert status == 413
    assert str(LIMIT) in json.loads(body)["error"]


def test_a_whole_chunked_body_above_the_limit_is_413(small):
    answer = small.invoke(iter([b"0," * 5000] * 30))
    assert (answer.status_code, answer.json()["status"]) == (413, 413)


def test_chunks_up_to_the_limit_are_read(small):
    row = ",".join(["0"] * 64) + "\n"
    body = (row * (LIMIT // len(row))).encode().ljust(LIMIT)
    answer = small.invoke(body[i : i + 4096] for i in range(0, LIMIT, 4096))
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == LIMIT // len(row)


@pytest.mark.parametrize(("status", "body"), [(413, b"0," * LIMIT), (400, b"x\n")])
def test_after_an_error_the_connection_is_usable_or_said_to_be_closed(small, digits, csv, status, body):
    good = csv(digits.test_rows[:1])
    with small.connect() as connection:
        connection.sendall(head(len(body)) + body)
        came, headers, _ = receive(connection)
        assert came == status
        if headers["connection"].lower() == "close":
            assert connection.recv(1) == b""
        else:
            connection.sendall(head(len(good)) + good)
            assert receive(connection)[0] == 200


def test_a_client_that_waits_for_100_continue_gets_it(server, digits, csv):
    body = csv(digits.test_rows[:1])
    with server.connect() as connection:
        connection.sendall(head(len(body)).replace(b"Host: x\r\n", b"Host: x\r\nExpect: 100-continue\r\n"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert receive(connection)[0] == 200


def test_a_connection_is_kept_for_the_next_request(server, digits, csv):
    body = csv(digits.test_rows[:1])
    with server.connect() as connection:
        answers = []
        for _ in range(3):
            connection.sendall(head(len(body)) + body)
            answers.append(receive(connection))
    assert [status for status, _, _ in answers] == [200] * 3
    assert len({content for _, _, content in answers}) == 1


def test_no_content_type_is_415(server):
    answer = requests.post(f"{server.url}/invocations", b"1", timeout=30)
    assert "Content-Type" not in answer.request.headers
    assert (answer.status_code, answer.headers["Content-Type"]) == (415, "application/json")


def test_headers_of_the_platform_change_nothing(server, digits, csv):
    body = csv(digits.test_rows[:1])
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "a=b", "X-Amzn-SageMaker-Inference-Id": "1", "X-Unknown": "é"}
    encoded = {name: value.encode() for name, value in headers.items()}
    answer = requests.post(
        f"{server.url}/invocations", body, headers=encoded | {"Content-Type": "text/csv"}, timeout=30
    )
    assert (answer.status_code, answer.content) == (200, server.invoke(body).content)


def test_answers_have_a_length_and_their_type(server, digits, csv):
    answer = server.invoke(csv(digits.test_rows[:3]), accept="text/csv; verbose=true")
    assert answer.headers["Content-Type"] == "text/csv"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert np.loadtxt(answer.text.splitlines(), delimiter=",").shape == (3, 11)
