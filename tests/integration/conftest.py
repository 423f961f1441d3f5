"""Real processes of `train` and `serve`, below a folder of their own and on a free port."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

BIN = Path(sys.executable).parent


def _environment(base, variables):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SAGEMAKER_", "TRAINING_"))}
    return inherited | {"SAGEMAKER_BASE_DIR": str(base)} | {name: str(value) for name, value in variables.items()}


@pytest.fixture(scope="session")
def train():
    """Runs `train` on a job's folder to its end."""

    def train_(base, **variables):
        return subprocess.run(
            [BIN / "train"],
            env=_environment(base, variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    return train_


@pytest.fixture
def start_training():
    """Starts `train` and gives the process, whose output is text line by line."""
    with contextlib.ExitStack() as stack:

        def start(base, **variables):
            process = subprocess.Popen(
                [BIN / "train"],
                env=_environment(base, variables),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


class Server:
    """A process of `serve`."""

    def __init__(self, base, **variables):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [BIN / "serve"],
            env=_environment(base, variables | {"SAGEMAKER_BIND_TO_PORT": self.port}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log = []
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stdout))
        self._reader.start()

    def wait_until_ready(self):
        deadline = time.monotonic() + 60
        while self.ping() != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                pytest.fail(f"/ping did not become 200\n{''.join(self.log)}", pytrace=False)
            time.sleep(0.05)

    def ping(self):
        try:
            return requests.get(f"{self.url}/ping", timeout=5).status_code
        except requests.ConnectionError:
            return None

    def invoke(self, body, content_type="text/csv", accept="application/json", **headers):
        headers |= {"Content-Type": content_type, "Accept": accept}
        return requests.post(f"{self.url}/invocations", body, headers=headers, timeout=60)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def stop(self):
        """Sends SIGTERM and gives the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def end(self):
        if self.process.poll() is None:
            self.stop()
        self._reader.join()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def serving():
    """A context in which a folder is served, ready unless it is told not to wait."""

    @contextlib.contextmanager
    def serving_(base, *, wait=True, **variables):
        server = Server(base, **variables)
        try:
            if wait:
                server.wait_until_ready()
            yield server
        finally:
            server.end()

    return serving_


@pytest.fixture(scope="session")
def trained(write_job, train, digits, csv):
    """A folder in which the digits were trained with k=5, and tested."""
    base = write_job(
        {
            "train/digits.csv": csv(digits.train_rows, digits.train_labels),
            "test/digits.csv": csv(digits.test_rows, digits.test_labels),
        },
        k=5,
    )
    done = train(base)
    assert done.returncode == 0, done.stdout
    return base


@pytest.fixture(scope="session")
def server(serving, trained):
    """The digits, served; for tests that leave the server as it is."""
    with serving(trained) as server_:
        yield server_
