"""Many requests at once, to one server process and to two."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests

CLIENTS = 32
RECORDIO = "application/x-recordio-protobuf"


@pytest.fixture(scope="module", params=[1, 2])
def heavy(request, write_job, train, serving, recordio):
    """A model on which 300 rows take a few tenths of a second, served by one process and by two."""
    rows = np.random.default_rng(0).normal(size=(30_000, 64)).astype(np.float32)
    labels = np.arange(len(rows)) % 7
    base = write_job({"train/rows": recordio.rows(rows, labels)}, content_type=RECORDIO, k=10)
    done = train(base, TRAINING_JOB_NAME="job")
    assert done.returncode == 0, done.stdout
    with serving(base, SAGEMAKER_MODEL_SERVER_WORKERS=request.param) as server:
        server.workers = request.param
        yield server


@pytest.fixture(scope="module")
def bodies(recordio):
    rows = np.random.default_rng(1).normal(size=(CLIENTS, 300, 64)).astype(np.float32)
    return [recordio.rows(block) for block in rows]


def children(process):
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def test_there_are_as_many_worker_processes_as_the_setting_says(heavy):
    deadline = time.monotonic() + 10
    while len(children(heavy.process.pid)) < heavy.workers and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    assert len(children(heavy.process.pid)) == heavy.workers


def test_once_ping_is_200_every_process_has_the_model(trained, serving):
    body = ",".join(["0.5"] * 64)
    with serving(trained, wait=False, SAGEMAKER_MODEL_SERVER_WORKERS=8) as server:
        while server.ping() != 200:
            assert server.process.poll() is None
        statuses = [status for _ in range(40) for status in (server.ping(), server.invoke(body).status_code)]
    assert set(statuses) == {200}


def test_answers_under_load_are_those_of_a_request_alone_and_ping_stays_quick(heavy, bodies):
    def ask(body):
        return heavy.invoke(body, RECORDIO, "application/jsonlines; verbose=true")

    alone = [ask(body).content for body in bodies[:4]]
    seconds, done = [], threading.Event()

    def ping():
        while not done.is_set():
            began = time.perf_counter()
            answer = requests.get(f"{heavy.url}/ping", timeout=10)
            seconds.append(time.perf_counter() - began)
            assert answer.status_code == 200
            time.sleep(0.01)

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        pinging = pool.submit(ping)
        answers = list(pool.map(ask, bodies * 2))
        done.set()
        pinging.result()
    assert {answer.status_code for answer in answers} == {200}
    assert len(seconds) > 20
    assert np.quantile(seconds, 0.99) < 0.25  # 0.05 on a machine that does nothing else
    for round_ in (answers[:CLIENTS], answers[CLIENTS:]):
        assert [answer.content for answer in round_[:4]] == alone


def test_without_a_number_there_is_a_process_for_each_cpu_and_the_log_says_why(trained, serving):
    with serving(trained) as server:
        count = min(16, len(os.sched_getaffinity(0)))
        assert len(children(server.process.pid)) == count
    (line,) = [line for line in server.log if "Serving" in line]
    assert f"{count} processes x " in line
    assert "in the affinity mask" in line


def test_small_requests_have_their_turn_beside_a_large_one(heavy, recordio):
    rows = np.random.default_rng(2).normal(size=(3000, 64)).astype(np.float32)
    large, small = recordio.rows(rows), recordio.rows(rows[:1])
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(heavy.invoke, large, RECORDIO)
        meanwhile = 0
        with requests.Session() as session:
            while not asked.done():
                answer = session.post(f"{heavy.url}/invocations", small, headers={"Content-Type": RECORDIO}, timeout=60)
                assert answer.status_code == 200
                meanwhile += 1
        ended = asked.result()
    assert ended.status_code == 200
    assert len(ended.json()["predictions"]) == 3000
    assert meanwhile >= 3
