"""`serve` with `MODEL_DATA_URL`, against a store on a loopback port and a proxy that fails."""

import io
import os
import re
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import s3_store

KEY = "job/output/model.tar.gz"


@pytest.fixture(scope="module")
def store():
    with s3_store.store() as opened:
        yield opened


@pytest.fixture
def proxy(store):
    with s3_store.proxy(store) as opened:
        yield opened


@pytest.fixture(scope="module")
def bucket(store, trained):
    return store.bucket({KEY: (trained / "output" / "model.tar.gz").read_bytes()})


@pytest.fixture
def temporary(tmp_path):
    """What is there for temporary files."""
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


@pytest.fixture
def serving_s3(serving, proxy, bucket, temporary, tmp_path):
    """A context in which `serve` has no model but that of MODEL_DATA_URL."""

    def serving_s3_(key=KEY, *, wait=True, **variables):
        variables = s3_store.environment(proxy.endpoint, tmp_path) | {"TMPDIR": temporary} | variables
        return serving(tmp_path / "ml", wait=wait, **({"MODEL_DATA_URL": f"s3://{bucket}/{key}"} | variables))

    return serving_s3_


def reason(server):
    """Why /ping is not 200."""
    answer = requests.get(f"{server.url}/ping", timeout=5)
    assert answer.status_code == 503
    return answer.json()["error"]


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers(server):
    """The process ids of the server processes."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def test_it_serves_the_model_as_if_it_were_in_the_folder(serving_s3, server, digits, csv, tmp_path):
    body = csv(digits.test_rows[:20])
    with serving_s3() as fetched:
        answers = [it.invoke(body, accept="application/json; verbose=true") for it in (fetched, server)]
    assert answers[0].status_code == 200
    assert answers[0].content == answers[1].content
    assert not (tmp_path / "ml").exists()


def test_it_is_served_in_place_of_what_is_in_the_folder(serving, store, proxy, bucket, trained, tmp_path, temporary):
    (tmp_path / "ml" / "model").mkdir(parents=True)
    (tmp_path / "ml" / "model" / "manifest.json").write_text("not a model")
    variables = s3_store.environment(proxy.endpoint, tmp_path) | {"TMPDIR": temporary}
    with serving(tmp_path / "ml", MODEL_DATA_URL=f"s3://{bucket}/{KEY}", **variables) as fetched:
        assert fetched.ping() == 200
    assert (tmp_path / "ml" / "model" / "manifest.json").read_text() == "not a model"


def test_several_processes_fetch_it_once_and_leave_nothing(serving_s3, proxy, temporary, digits, csv):
    with serving_s3(SAGEMAKER_MODEL_SERVER_WORKERS=2) as server:
        (folder,) = temporary.glob("model-*")
        assert sorted(path.name for path in folder.iterdir()) == ["lock", "model"]
        assert server.invoke(csv(digits.test_rows[:1])).status_code == 200
        assert server.stop() == 0
    assert proxy.count("HEAD") == 1
    assert list(temporary.iterdir()) == []


def test_a_process_that_ends_leaves_the_model_to_the_one_that_follows(serving_s3, proxy):
    with serving_s3() as server:
        (first,) = workers(server)
        os.kill(first, signal.SIGTERM)
        wait_for(lambda: first not in workers(server))
        server.wait_until_ready()
    assert proxy.count("HEAD") == 1


def test_a_process_that_is_killed_in_the_middle_leaves_no_half(serving_s3, proxy, temporary, digits, csv):
    proxy.fail(s3_store.slowly(60))
    with serving_s3(wait=False) as server:
        wait_for(lambda: proxy.count("GET"))
        (first,) = workers(server)
        assert not list(temporary.glob("*/model"))
        assert reason(server) == "Not ready: the model is being fetched"
        os.kill(first, signal.SIGKILL)
        server.wait_until_ready()
        assert np.isfinite(server.invoke(csv(digits.test_rows[:1])).json()["predictions"][0]["predicted_label"])


def test_sigterm_ends_it_in_the_middle(serving_s3, proxy, temporary):
    proxy.fail(s3_store.slowly(60))
    with serving_s3(wait=False) as server:
        wait_for(lambda: proxy.count("GET"))
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10
    assert list(temporary.iterdir()) == []


def test_throttling_and_a_body_that_breaks_off_are_overcome(serving_s3, proxy):
    proxy.fail(s3_store.answers(503, "SlowDown"), method="HEAD")
    proxy.fail(s3_store.answers(503, "SlowDown"))
    proxy.fail(s3_store.cut(1000), times=3)
    with serving_s3() as server:
        assert server.ping() == 200


@pytest.mark.parametrize(
    ("key", "variables", "message"),
    [
        ("no/model.tar.gz", {}, "no/model.tar.gz: there is no such object"),
        (KEY, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no AWS credentials that can be used"),
        (
            KEY,
            {"MODEL_DATA_URL": "s3://no-such-bucket/m.tar.gz"},
            "s3://no-such-bucket/m.tar.gz: there is no such bucket",
        ),
        (
            KEY,
            {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"},
            "the model cannot be fetched yet: .*S3 cannot be reached",
        ),
    ],
)
def test_what_cannot_be_fetched_is_said_on_ping_and_in_the_log(serving_s3, temporary, key, variables, message):
    with serving_s3(key, wait=False, **variables) as server:
        wait_for(lambda: server.ping() == 503 and "being" not in reason(server))
        assert re.search(message, reason(server))
        assert server.stop() == 0
    assert re.search(message.removeprefix("the model cannot be fetched yet: "), "".join(server.log))
    assert list(temporary.iterdir()) == []


def test_what_is_no_archive_is_said_with_its_place(serving_s3, store, bucket):
    store.client.put_object(Bucket=bucket, Key="text.tar.gz", Body=b"text")
    with serving_s3("text.tar.gz", wait=False) as server:
        wait_for(lambda: server.ping() == 503 and "being" not in reason(server))
        assert f"s3://{bucket}/text.tar.gz: " in reason(server)
        assert "is not a whole .tar.gz" in reason(server)


def test_paths_in_the_archive_are_not_trusted(serving_s3, store, bucket, trained, temporary):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("../escaped", "/escaped", "deep/../../../escaped"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        for path in sorted((trained / "model").iterdir()):
            tar.add(path, path.name)
    store.client.put_object(Bucket=bucket, Key="hostile.tar.gz", Body=packed.getvalue())
    with serving_s3("hostile.tar.gz") as server:
        assert server.ping() == 200
        assert not [path for path in temporary.parent.rglob("*") if "escaped" in path.name]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MODEL_DATA_URL": "https://bucket/model.tar.gz"}, "MODEL_DATA_URL: expected s3://BUCKET/KEY"),
        ({"SAGEMAKER_MULTI_MODEL": "true"}, "MODEL_DATA_URL: expected none with SAGEMAKER_MULTI_MODEL"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_the_server_at_once(serving_s3, variables, message):
    with serving_s3(wait=False, **variables) as server:
        assert server.process.wait(60) == 2
        server.end()
        assert message in "".join(server.log)
