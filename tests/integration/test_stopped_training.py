"""SIGTERM to a job that reads: whole rows become the model, and what is too little becomes a failure."""

import fcntl
import json
import os
import signal
import struct
import termios
import threading
import time

import numpy as np
import pytest

CSV, RECORDIO = "text/csv", "application/x-recordio-protobuf"


@pytest.fixture
def pipe_job(write_job, start_training):
    """Starts a job whose train channel is a pipe; gives its folder, the process and the pipe's path."""

    def start(content_type, **options):
        base = write_job({}, **options)
        config = {"train": {"ContentType": content_type, "TrainingInputMode": "Pipe"}}
        (base / "input/config/inputdataconfig.json").write_text(json.dumps(config))
        (base / "input/data").mkdir()
        return base, start_training(base), base / "input/data/train_0"

    return start


def manifest(base):
    return json.loads((base / "model/manifest.json").read_text())


def end(process):
    """Sends SIGTERM and gives the exit status and the seconds that it took."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    log = process.communicate(timeout=60)[0]
    return process.returncode, time.monotonic() - began, log


def wait_for(process, words):
    assert next((line for line in process.stdout if words in line), None), "the job ended without saying so"


def wait_until_read(stream):
    """Waits until a pipe is empty, and a little longer for what has been read to be counted."""
    while struct.unpack("i", fcntl.ioctl(stream, termios.FIONREAD, bytes(4)))[0]:
        time.sleep(0.01)
    time.sleep(0.3)


def failed(base, *words):
    failure = (base / "output/failure").read_text()
    assert failure.startswith("ClientError: ")
    assert all(word in failure for word in words), failure
    assert not (base / "model/manifest.json").exists()
    assert not (base / "output/model.tar.gz").exists()


@pytest.mark.parametrize("exists", [False, True])
def test_a_pipe_that_never_speaks_is_a_failure_within_seconds(pipe_job, exists):
    base, process, pipe = pipe_job(CSV)
    wait_for(process, "Checkpoint loading")
    if exists:
        os.mkfifo(pipe)
    time.sleep(0.3)
    status, seconds, log = end(process)
    assert (status, "Traceback" in log) == (1, False)
    assert seconds < 20
    failed(base, "SIGTERM came before the first row was read")


def csv_rows(count):
    return [b"%d,%d,%d\n" % (number % 7, number, -number) for number in range(count)]


@pytest.fixture
def rows_in(recordio):
    """Rows of a format, each as its bytes: row n is (n, -n), labelled n modulo 7."""

    def rows(content_type, count):
        if content_type == CSV:
            return csv_rows(count)
        return [recordio.rows([[number, -number]], [number % 7]) for number in range(count)]

    return rows


@pytest.mark.parametrize("content_type", [CSV, RECORDIO])
@pytest.mark.parametrize(
    ("whole", "part", "batch"),
    [
        (10, 0, 5),  # at the end of a batch
        (12, 0, 5),  # within a batch
        (12, 3, 5),  # within a row
        (12, 9, 5),  # recordio: just behind a header; CSV: all of a row but its end
        (3, 1, 5000),  # within the first batch
        (20_000, 5, 5000),
    ],
)
def test_the_model_holds_exactly_the_whole_rows_that_were_sent(*, pipe_job, rows_in, content_type, whole, part, batch):
    base, process, pipe = pipe_job(content_type, mini_batch_size=batch, k=1)
    os.mkfifo(pipe)
    rows = rows_in(content_type, whole + 1)
    with pipe.open("wb", buffering=0) as stream:
        stream.write(b"".join(rows[:whole]) + rows[whole][: min(part, len(rows[whole]) - 1)])
        wait_until_read(stream)
        status, seconds, log = end(process)
    assert (status, "Traceback" in log) == (0, False)
    assert seconds < 20
    described = manifest(base)
    assert (described["rows"], described["rows_read"], described["stopped_early"]) == (whole, whole, True)
    assert np.load(base / "model/ids.npy").tolist() == list(range(whole))
    assert np.load(base / "model/labels.npy").tolist() == [number % 7 for number in range(whole)]
    assert not (base / "output/failure").exists()
    assert (base / "output/model.tar.gz").exists()


@pytest.mark.parametrize("delay", [0, 0.3])
def test_pipes_that_come_late_and_end_are_trained_on_and_scored(write_job, start_training, delay):
    base = write_job({}, k=1)
    config = {"ContentType": CSV, "TrainingInputMode": "Pipe"}
    (base / "input/config/inputdataconfig.json").write_text(json.dumps({"train": config, "test": config}))
    (base / "input/data").mkdir()
    process = start_training(base)
    wait_for(process, "Checkpoint loading")
    for name, content in (("train_0", b"1,0\n2,5\n"), ("test_0", b"1,1\n1,2\n2,3\n1,4\n")):
        time.sleep(delay)
        os.mkfifo(base / "input/data" / name)
        (base / "input/data" / name).write_bytes(content)
    log = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    # Rows 1 and 2 are near 0, rows 3 and 4 near 5, whose label is 2.
    assert "#quality_metric: host=algo-1, test accuracy <score>=0.75\n" in log
    assert (manifest(base)["rows_read"], manifest(base)["stopped_early"]) == (2, False)


def test_a_slow_pipe_is_read_up_to_the_signal(pipe_job):
    base, process, pipe = pipe_job(CSV, k=1, mini_batch_size=1)
    os.mkfifo(pipe)
    sent, stopped = [], threading.Event()

    def write():
        with pipe.open("wb", buffering=0) as stream:
            for row in csv_rows(100_000):
                if stopped.wait(0.005):
                    return
                try:
                    stream.write(row)
                except BrokenPipeError:
                    return
                sent.append(row)

    writer = threading.Thread(target=write)
    writer.start()
    while len(sent) < 100:
        time.sleep(0.01)
    before = len(sent)
    status, _, _ = end(process)
    stopped.set()
    writer.join()
    assert status == 0
    assert before - 2 <= manifest(base)["rows"] <= len(sent)
    assert manifest(base)["stopped_early"]


def test_fewer_rows_than_k_are_a_failure_that_names_both(pipe_job):
    base, process, pipe = pipe_job(CSV, k=5)
    os.mkfifo(pipe)
    with pipe.open("wb", buffering=0) as stream:
        stream.write(b"".join(csv_rows(4)) + b"1,2")
        wait_until_read(stream)
        status, seconds, _ = end(process)
    assert (status, seconds < 20) == (1, True)
    failed(base, "k is 5", "4 rows")


@pytest.mark.parametrize("content_type", [CSV, RECORDIO])
def test_a_large_file_is_read_up_to_the_signal_and_what_was_read_is_served(
    *, write_job, start_training, serving, recordio, content_type
):
    rows = np.random.default_rng(0).integers(-50, 50, (20_000, 20))
    rows[:, 0] = np.arange(20_000)
    if content_type == CSV:
        once = b"".join(b"%d,%s\n" % (row[0] % 9, b",".join(b"%d" % value for value in row)) for row in rows)
    else:
        once = recordio.rows(rows, rows[:, 0] % 9)
    files = {f"train/{name}": once for name in "abcdefgh"}
    # One row at a time, so that no machine reads all of them before the signal comes.
    base = write_job(files, content_type=content_type, k=1, mini_batch_size=1)
    process = start_training(base)
    wait_for(process, "Checkpoint loading")
    time.sleep(1.5)
    status, seconds, log = end(process)
    assert (status, "Traceback" in log) == (0, False)
    assert seconds < 30
    described = manifest(base)
    assert described["stopped_early"]
    assert 0 < described["rows"] == described["rows_read"] < 160_000
    assert np.load(base / "model/ids.npy").tolist() == list(range(described["rows"]))
    with serving(base) as server:
        query = ",".join(map(str, rows[min(described["rows"], 20_000) - 1]))
        (answer,) = server.invoke(query, accept="application/json; verbose=true").json()["predictions"]
    assert answer["distances"] == [0]


def test_a_signal_while_the_test_channel_is_read_leaves_the_model_and_success(write_job, start_training):
    base = write_job({"train/rows.csv": b"".join(csv_rows(50))}, k=1)
    (base / "input/data/test").mkdir()
    os.mkfifo(base / "input/data/test/rows.csv")
    config = {name: {"ContentType": CSV} for name in ("train", "test")}
    (base / "input/config/inputdataconfig.json").write_text(json.dumps(config))
    process = start_training(base)
    with (base / "input/data/test/rows.csv").open("wb", buffering=0) as stream:
        stream.write(b"".join(csv_rows(3)))
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() == 0
    assert manifest(base)["rows"] == 50
