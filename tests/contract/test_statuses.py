"""Every status but 200, and what its body says. Rows count from 1."""

import json

import pytest

JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"
RECORDIO = "application/x-recordio-protobuf"
INSTANCE = b'{"features": [1, 2]}'
SPARSE = '{"instances": [{"features": [1, 2]}, {"data": {"features": %s}}]}'


@pytest.fixture(scope="module")
def client(serve_rows):
    """A model of two features."""
    return serve_rows([[0, 0], [1, 1], [2, 2]], [1, 2, 3])


def refused(response, status):
    """Checks that an answer is an error of one form, and gives its text."""
    assert response.status_code == status
    assert response.content_type == JSON
    body = response.get_json()
    assert set(body) == {"error", "status"}
    assert body["status"] == status
    return body["error"]


TEXT_BODIES = [
    (CSV, b"", ["at least one row", "empty body"]),
    (CSV, b"\r\n \n", ["at least one row", "empty body"]),
    (CSV, b"1,2\n3\n", ["row 2", "expected 2 features", "1 came"]),
    (CSV, b"1,2\n\n1,2,3\n", ["row 3", "expected 2 features", "3 came"]),
    (CSV, b"1;2\n", ["row 1", "'1;2'"]),
    (CSV, b"1,2\n1,two\n", ["row 2", "column 2", "'two'", "expected a number"]),
    (CSV, b"width,height\n1,2\n", ["row 1", "'width'", "header"]),
    (CSV, b"1,2\n1,\n", ["row 2", "column 2"]),
    (CSV, b"1,2\nnan,2\n", ["row 2", "feature 1 is nan", "finite"]),
    (CSV, b"1,inf\n", ["row 1", "feature 2 is inf", "finite"]),
    (CSV, b"1,2\n1,1e39\n", ["row 2", "feature 2 is 1e+39", "float32"]),
    (CSV, b"1,2\n1,\xff\n", ["row 2", "utf-8"]),
    ("text/csv; label_size=1", b"1,2\n", ["row 1", "expected 2 features", "1 came"]),
    ("text/csv; label_size=9", b"1,2\n", ["row 1", "9 label columns", "2 columns came"]),
    ("text/csv; label_size=-1", b"1,2\n", ["label_size", "'-1'"]),
    ("text/csv; label_size=one", b"1,2\n", ["label_size", "'one'"]),
    ("text/csv; encoding=klingon", b"1,2\n", ["encoding", "'klingon'"]),
    (JSON, b"", ["instances", "empty body"]),
    (JSON, b" \n", ["instances", "empty body"]),
    (JSON, b'{"instances": [', ["not JSON"]),
    (JSON, b"[[1, 2]]", ["instances", "a list of 1 came"]),
    (JSON, b'{"rows": []}', ["instances", "'rows'"]),
    (JSON, b'{"instances": {"features": [1, 2]}}', ["instances"]),
    (JSON, b'{"instances": [[1, 2]]}', ["row 1", "a list of 2 came"]),
    (JSON, b'{"instances": [{"features": [1, 2]}, {"values": [1, 2]}]}', ["row 2", "'values'"]),
    (JSON, b'{"instances": [{"features": [1, 2]}, {"features": [1]}]}', ["row 2", "expected 2 features", "1 came"]),
    (JSON, b'{"instances": [{"features": [1, 2]}, {"features": [1, "2"]}]}', ["row 2", "feature 2", '"2"']),
    (JSON, b'{"instances": [{"features": [1, 2]}, {"features": [null, 2]}]}', ["row 2", "feature 1", "null"]),
    (JSON, b'{"instances": [{"features": [1, 2]}, {"features": [1, true]}]}', ["row 2", "feature 2", "true"]),
    (JSON, b'{"instances": [{"features": [[1], [2]]}]}', ["row 1", "feature 1", "a list of 1"]),
    (JSON, b'{"instances": [{"features": [1, NaN]}]}', ["not JSON"]),
    (JSON, b'{"instances": [{"features": [1, Infinity]}]}', ["not JSON"]),
    (JSON, b'{"instances": [{"features": [1, 2]}, {"features": [1, 1e39]}]}', ["row 2", "feature 2", "float32"]),
    (JSON, SPARSE % '{"keys": [0, 1], "shape": [2], "values": [1]}', ["row 2", "2 keys and 1 values"]),
    (JSON, SPARSE % '{"keys": [2], "shape": [2], "values": [1]}', ["row 2", "outside its 2 columns"]),
    (JSON, SPARSE % '{"keys": [-1], "shape": [2], "values": [1]}', ["row 2", "whole numbers from 0"]),
    (JSON, SPARSE % '{"keys": [0.5], "shape": [2], "values": [1]}', ["row 2", "whole numbers from 0"]),
    (JSON, SPARSE % '{"keys": [0], "values": [1]}', ["row 2", "shape"]),
    (JSON, SPARSE % '{"keys": [0], "shape": [3], "values": [1]}', ["row 2", "expected 2 features", "3 came"]),
    (JSON, SPARSE % '{"keys": [0], "shape": [1000000000000], "values": [1]}', ["row 2", "expected 2 features"]),
    (JSON, SPARSE % '{"keys": [0], "shape": [2, 2], "values": [1]}', ["row 2", "shape of one row"]),
    (JSON, SPARSE % '{"keys": [0]}', ["row 2", "without values"]),
    (LINES, b"", ["one JSON instance a line", "empty body"]),
    (LINES, b"\n\r\n", ["one JSON instance a line", "empty body"]),
    (LINES, INSTANCE + b"\n{\n", ["row 2", "not JSON"]),
    (LINES, INSTANCE + b"\n\n[1, 2]", ["row 3", "a list of 2 came"]),
    (LINES, INSTANCE + b'\n{"features": [1, 2, 3]}', ["row 2", "expected 2 features", "3 came"]),
    (LINES, INSTANCE + INSTANCE, ["row 1", "not JSON"]),
    (LINES, b'{"instances": [{"features": [1, 2]}]}', ["row 1", "'instances'"]),
]


@pytest.mark.parametrize(("content_type", "body", "expected"), TEXT_BODIES)
def test_a_body_that_is_not_what_its_type_promises_is_400(client, content_type, body, expected):
    error = refused(client.post("/invocations", data=body, content_type=content_type), 400)
    assert [part for part in expected if part not in error] == [], error


RECORDIO_BODIES = {
    "empty": (lambda r: b"", ["at least one record", "empty body"]),
    "neither a frame nor a record": (lambda r: b"1,2\n", ["row 1", "not an aialgs.data.Record"]),
    "half a header": (lambda r: r.rows([[1, 2]]) + r.rows([[1, 2]])[:5], ["row 2", "5 of 8 bytes"]),
    "half a payload": (lambda r: r.frame(bytes(40))[:28], ["row 1", "20 of 40 bytes"]),
    "another magic": (lambda r: r.rows([[1, 2]]) + bytes(8), ["row 2", "0a23d7ce", "00000000"]),
    "a middle part first": (lambda r: r.rows([[1, 2]]) + r.frame(b"", 2), ["row 2", "out of order"]),
    "a whole record between parts": (lambda r: r.frame(b"", 1) + r.frame(b"", 0), ["row 1", "out of order"]),
    "no last part": (lambda r: r.frame(b"", 1), ["row 1", "last part"]),
    "an unknown part flag": (lambda r: r.frame(b"", 5), ["row 1", "part flag"]),
    "no features": (lambda r: r.frame(r.record()), ["row 1", "'values'", "none"]),
    "another key": (lambda r: r.frame(r.record(r.tensor([1, 2]), key=b"data")), ["row 1", "'values'", "'data'"]),
    "bytes": (lambda r: r.frame(r.record(r.field(9, r.field(1, b"x")))), ["row 1", "numbers", "bytes"]),
    "too few": (lambda r: r.rows([[1, 2], [1]]), ["row 2", "expected 2 features", "1 came"]),
    "none": (lambda r: r.frame(r.record(r.tensor([]))), ["row 1", "expected 2 features", "0 came"]),
    "NaN": (lambda r: r.rows([[1, 2], [1, float("nan")]]), ["row 2", "feature 2 is nan", "finite"]),
    "inf": (lambda r: r.rows([[float("inf"), 2]], kind="float64"), ["row 1", "feature 1 is inf", "finite"]),
    "outside float32": (lambda r: r.rows([[1e39, 2]], kind="float64"), ["row 1", "feature 1", "float32"]),
    "keys without a shape": (lambda r: r.frame(r.record(r.tensor([1], keys=(1,)))), ["row 1", "no shape"]),
    "more keys than values": (
        lambda r: r.frame(r.record(r.tensor([1], keys=(0, 1), shape=(2,)))),
        ["row 1", "2 keys and 1 values"],
    ),
    "a key outside": (lambda r: r.frame(r.record(r.tensor([1], keys=(2,), shape=(2,)))), ["row 1", "outside its 2"]),
    "another shape": (lambda r: r.frame(r.record(r.tensor([1], keys=(1,), shape=(3,)))), ["expected 2", "3 came"]),
    "a huge shape": (lambda r: r.frame(r.record(r.tensor([1], keys=(1,), shape=(1 << 50,)))), ["expected 2 features"]),
    "a matrix": (lambda r: r.frame(r.record(r.tensor([1], keys=(1,), shape=(2, 2)))), ["shape of one row"]),
}


@pytest.mark.parametrize("case", RECORDIO_BODIES)
def test_a_broken_recordio_body_is_400(client, recordio, case):
    make, expected = RECORDIO_BODIES[case]
    error = refused(client.post("/invocations", data=make(recordio), content_type=RECORDIO), 400)
    assert [part for part in expected if part not in error] == [], error


@pytest.mark.parametrize(
    "content_type", [None, "", "application/octet-stream", "text/plain", "application/x-npy", "csv", ";"]
)
def test_another_type_is_415_and_the_answer_names_those_that_are_read(client, content_type):
    error = refused(client.post("/invocations", data=b"1,2\n", content_type=content_type), 415)
    assert all(name in error for name in (CSV, JSON, LINES, RECORDIO))
    assert (content_type or "").strip(";") in error


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/ping/x"), ("GET", "/models"), ("POST", "/x")])
def test_an_unknown_path_is_404(client, method, path):
    assert path in refused(client.open(path, method=method), 404)


@pytest.mark.parametrize(("method", "path"), [("GET", "/invocations"), ("DELETE", "/invocations"), ("POST", "/ping")])
def test_another_method_is_405(client, method, path):
    assert method in refused(client.open(path, method=method), 405)


@pytest.mark.parametrize("content_type", [CSV, JSON, LINES, RECORDIO])
def test_a_body_above_the_limit_is_413_and_names_both_numbers(serve, trained, content_type):
    client = serve(trained / "model", max_content_length=1000)
    error = refused(client.post("/invocations", data=b" " * 1001, content_type=content_type), 413)
    assert "1000" in error
    assert "1001" in error


def test_a_body_as_long_as_the_limit_is_read(serve, trained):
    body = b",".join([b"0"] * 64)
    response = serve(trained / "model", max_content_length=len(body)).post("/invocations", data=body, content_type=CSV)
    assert response.status_code == 200


def test_a_failure_of_the_server_is_500_and_later_requests_are_answered(client, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr("knn_container.model.Model.predict", lambda *_: 1 / 0)
        error = refused(client.post("/invocations", data=b"1,2", content_type=CSV), 500)
    assert "ZeroDivisionError" in error
    assert "Traceback" in caplog.text
    assert client.post("/invocations", data=b"1,2", content_type=CSV).status_code == 200


def test_errors_are_json_whatever_the_answer_that_was_asked_for(client):
    response = client.post("/invocations", data=b"x", content_type=CSV, headers={"Accept": "text/csv"})
    assert json.loads(response.get_data())["status"] == 400
