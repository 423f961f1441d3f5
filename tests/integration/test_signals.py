"""SIGTERM to `serve` and to `train`, in the middle of their work."""

import contextlib
import json
import os
import signal
import time

import numpy as np
import pytest

RECORDIO = "application/x-recordio-protobuf"


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_ends_a_request_before_it_exits(trained, serving, digits, csv, workers):
    body = csv(digits.test_rows[:1])
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: {len(body)}\r\n\r\n"
    with serving(trained, SAGEMAKER_MODEL_SERVER_WORKERS=workers) as server, server.connect() as connection:
        connection.sendall(head.encode() + body[:20])
        time.sleep(0.5)  # the request is being read
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.process.poll() is None
        connection.sendall(body[20:])
        began = time.monotonic()
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 10
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"predicted_label"' in answer


@pytest.mark.parametrize("workers", [1, 2])
def test_an_idle_server_exits_within_seconds(trained, serving, workers):
    with serving(trained, SAGEMAKER_MODEL_SERVER_WORKERS=workers) as server:
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
    assert not [line for line in server.log if "Traceback" in line]


def test_connections_that_say_nothing_delay_the_exit_by_seconds(trained, serving):
    with serving(trained) as server, server.connect(), server.connect() as kept:
        kept.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 15


@pytest.fixture
def slow_job(write_job, start_training):
    """A job that reads a file of three rows and then waits for a pipe, whose writing end it gives."""

    @contextlib.contextmanager
    def slow(content_type="text/csv", first=b"1,0\n2,1\n3,2\n", **options):
        base = write_job({"train/a": first}, content_type=content_type, **options)
        os.mkfifo(base / "input" / "data" / "train" / "b")
        process = start_training(base)
        with (base / "input" / "data" / "train" / "b").open("wb", buffering=0) as pipe:  # opens once `train` reads it
            yield base, process, pipe
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    return slow


def manifest(base):
    return json.loads((base / "model" / "manifest.json").read_bytes())


@pytest.mark.parametrize("content_type", ["text/csv", RECORDIO])
def test_sigterm_ends_the_reading_and_the_rows_read_become_the_model(slow_job, recordio, serving, content_type):
    rows, labels = [[number] for number in range(5000)], [number % 7 for number in range(5000)]
    if content_type == RECORDIO:
        body, last, first = recordio.rows(rows, labels), recordio.rows([[9999]], [8])[:-5], recordio.rows([[-1]], [9])
    else:
        body = b"".join(b"%d,%d\n" % (label, row) for (row,), label in zip(rows, labels, strict=True))
        last, first = b"8,99", b"9,-1\n"
    with slow_job(content_type, first, k=1) as (base, process, pipe):
        pipe.write(body + last)
        time.sleep(1)
    assert process.returncode == 0
    assert not (base / "output" / "failure").exists()
    # The row whose end had not come yet is none.
    assert (manifest(base)["rows"], manifest(base)["rows_read"]) == (5001, 5001)
    with serving(base) as server:
        assert server.invoke("-1\n4000\n9999\n", accept="text/csv").content == b"9.0\n3.0\n1.0\n"


def test_sigterm_before_k_rows_are_read_is_a_failure_without_a_model(slow_job):
    with slow_job(k=4) as (base, process, _):
        time.sleep(0.5)
    assert process.returncode == 1
    failure = (base / "output" / "failure").read_text()
    assert "k is 4" in failure
    assert "3 rows" in failure
    assert list((base / "model").glob("*")) == []
    assert not (base / "output" / "model.tar.gz").exists()


def test_sigterm_while_the_index_is_built_lets_it_be_ended(write_job, start_training, serving, recordio):
    rows = np.random.default_rng(0).normal(size=(40_000, 32)).astype(np.float32)
    base = write_job(
        {"train/rows": recordio.rows(rows, np.arange(len(rows)) % 5)},
        content_type=RECORDIO,
        index_type="faiss.IVFFlat",
        faiss_index_ivf_nlists=2000,
        k=1,
    )
    process = start_training(base)
    assert next(line for line in process.stdout if "Training index..." in line)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    log = process.communicate(timeout=60)[0]
    assert "...Finished training index" in log
    assert process.returncode == 0
    assert manifest(base)["rows"] == len(rows)
    with serving(base) as server:
        answer = server.invoke(recordio.rows(rows[:50]), RECORDIO)
    predicted = [row["predicted_label"] for row in answer.json()["predictions"]]
    assert predicted == [number % 5 for number in range(50)]


def test_sigkill_leaves_no_model_of_an_earlier_job(write_job, train, start_training):
    base = write_job({"train/rows.csv": b"1,0\n2,1\n3,2\n"})
    assert train(base).returncode == 0
    assert (base / "output" / "model.tar.gz").exists()
    os.mkfifo(base / "input" / "data" / "train" / "slow.csv")
    process = start_training(base)
    with (base / "input" / "data" / "train" / "slow.csv").open("wb"):
        process.kill()
        process.wait(30)
    assert not (base / "model" / "manifest.json").exists()
    assert not (base / "output" / "model.tar.gz").exists()
