"""What the tests with other people's clients share: an environment for each client, the image, servers and data.

A client runs as a script of `drivers` in an environment of its own, made of the lock file that has its name below
`requirements/clients` and kept below `.venv-clients`. The tests compare what it brings back with scikit-learn.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests
from docker_engine import build, docker, require
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DRIVERS = Path(__file__).parent / "drivers"
SDK_CONFIG = """\
SchemaVersion: "1.0"
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
"""


def make_environment(name, python):
    """Makes the environment of a client, or gives the one that is there; returns its Python."""
    folder = ROOT / ".venv-clients" / name
    lock = ROOT / "requirements" / "clients" / f"{name}.txt"
    stamp = folder / "installed"
    version = subprocess.check_output([python, "--version"])
    wanted = hashlib.sha256(version + lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        # The lock names everything, so that there is nothing to resolve.
        install = ["pip", "install", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--requirement"]
        for command in (
            [python, "-m", "venv", "--clear", folder],
            [folder / "bin" / "python", "-m", *install, lock],
        ):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            assert done.returncode == 0, done.stdout
        stamp.write_text(wanted)
    return folder / "bin" / "python"


@dataclass(frozen=True)
class Run:
    """What a driver left."""

    result: object
    log: str


class Client:
    """Runs drivers in a client's environment.

    Args:
        python: of the environment.
        folder: for files.
    """

    def __init__(self, python, folder):
        self._python = python
        self._folder = folder
        self._config = folder / "sdk.yaml"
        self._config.write_text(SDK_CONFIG)

    def run(self, driver, **arguments):
        """Runs a driver with JSON arguments. It must come to its end without asking for any other machine."""
        left = self._folder / "result.json"
        left.unlink(missing_ok=True)
        done = subprocess.run(
            [self._python, DRIVERS / driver, left],
            input=json.dumps(arguments, default=str),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._variables(),
            cwd=self._folder,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"{driver} failed\n{done.stdout}", pytrace=False)
        document = json.loads(left.read_text())
        assert document["refused"] == []
        return Run(document["result"], done.stdout)

    def _variables(self):
        """This process's variables, with an account that does not exist and without the user's own settings."""
        foreign = ("AWS_", "SAGEMAKER_", "TRAINING_", "PYTHON", "VIRTUAL_ENV")
        nothing = str(self._folder / "nothing")
        return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_CONFIG_FILE": nothing,
            "AWS_SHARED_CREDENTIALS_FILE": nothing,
            "AWS_DEFAULT_REGION": "us-west-2",
            "AWS_EC2_METADATA_DISABLED": "true",
            "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(self._config),
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(self._config),
        }


@pytest.fixture(scope="session")
def make_client(tmp_path_factory):
    def make(name, python=sys.executable):
        return Client(make_environment(name, python), tmp_path_factory.mktemp(name))

    return make


@pytest.fixture(scope="session")
def sdk_v2(make_client):
    return make_client("sdk-v2")


@pytest.fixture(scope="session")
def sdk_v3(make_client):
    return make_client("sdk-v3")


@pytest.fixture(scope="session")
def mxnet(make_client):
    python = sys.executable if sys.version_info < (3, 12) else shutil.which("python3.11")
    if python is None:
        pytest.skip("MXNet's last release needs Python 3.11: its NumPy, 1.23.5, has no wheels for a later one")
    return make_client("mxnet", python)


@pytest.fixture(scope="session")
def image():
    """The image, built from the working tree; a second build of the same tree takes a second or two."""
    require(compose=True)
    return build("faiss-cpu")


@pytest.fixture(scope="session")
def containers():
    """Lists the containers that docker-compose started from files below a folder: their numbers and states."""

    def containers_(root):
        """Compose writes the folder of its file on each container."""
        label = "com.docker.compose.project.working_dir"
        done = docker(
            "ps", "--all", f"--filter=label={label}", f'--format={{{{.ID}}}} {{{{.State}}}} {{{{.Label "{label}"}}}}'
        )
        rows = [line.split(" ", 2) for line in done.stdout.splitlines()]
        return {number: state for number, state, folder in rows if Path(folder).is_relative_to(root)}

    return containers_


@pytest.fixture(scope="session")
def compose_root(tmp_path_factory, containers):
    """A folder for docker-compose's files; what containers they leave are removed at the end."""
    root = tmp_path_factory.mktemp("compose")
    yield root
    if left := containers(root):
        docker("rm", "--force", *left)
    docker("network", "rm", "sagemaker-local", check=False)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session", name="free_port")
def free_port_():
    """Finds a port that nothing listens on."""
    return free_port


def _variables(base):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SAGEMAKER_", "TRAINING_"))}
    return inherited | {"SAGEMAKER_BASE_DIR": str(base)}


@pytest.fixture(scope="session")
def train():
    """Runs `train` on a job's folder and gives its log."""

    def train_(base):
        done = subprocess.run(
            [BIN / "train"],
            env=_variables(base),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return train_


@pytest.fixture(scope="session")
def serving():
    """A context in which `serve` answers for a job's folder, on the port that it gives."""

    @contextlib.contextmanager
    def serving_(base):
        port = free_port()
        log = base / "serve.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [BIN / "serve"],
                env=_variables(base) | {"SAGEMAKER_BIND_TO_PORT": str(port)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            deadline = time.monotonic() + 60
            while not _answers(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(60)

    return serving_


def _answers(port):
    try:
        return requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok
    except requests.ConnectionError:
        return False


@dataclass(frozen=True)
class Digits:
    """Scikit-learn's digits with a little noise, so that no two distances are equal; a fifth to test with."""

    train_rows: np.ndarray
    train_labels: np.ndarray
    test_rows: np.ndarray
    test_labels: np.ndarray

    def model(self, k, kind=KNeighborsClassifier):
        """Scikit-learn's model of the training rows; classes that tie are resolved to the smallest, as here."""
        return kind(k, algorithm="brute").fit(self.train_rows.astype(np.float64), self.train_labels)

    @property
    def queries(self):
        return self.test_rows.astype(np.float64)


@pytest.fixture(scope="session")
def digits():
    rows, labels = load_digits(return_X_y=True)
    rows = (rows + np.random.default_rng(0).uniform(-0.5, 0.5, rows.shape)).astype(np.float32)
    labels = labels.astype(np.float32)
    return Digits(rows[:1437], labels[:1437], rows[1437:], labels[1437:])


@pytest.fixture(scope="session")
def assert_neighbours():
    """Compares verbose answers with scikit-learn's neighbours and squared distances."""

    def assert_(answers, model, labels, queries):
        distances, rows = model.kneighbors(queries)
        assert [answer["labels"] for answer in answers] == labels[rows].tolist()
        np.testing.assert_allclose([answer["distances"] for answer in answers], distances**2, rtol=1e-5)
        assert [answer["predicted_label"] for answer in answers] == model.predict(queries).tolist()

    return assert_


@pytest.fixture(scope="session")
def write_records(sdk_v2, tmp_path_factory):
    """Writes files with the SDK's writers, and gives the bytes of each."""

    def write(arrays, files):
        folder = tmp_path_factory.mktemp("records")
        np.savez(folder / "arrays.npz", **arrays)
        sdk_v2.run(
            "sdk_v2_write.py",
            arrays=folder / "arrays.npz",
            files={str(folder / name): given for name, given in files.items()},
        )
        return {name: (folder / name).read_bytes() for name in files}

    return write
