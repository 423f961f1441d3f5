"""What the tests of the image share: the engine, the images, the digits and running containers."""

import io
import json
import os
import time
import uuid
from dataclasses import dataclass

import numpy as np
import pytest
import requests
from docker_engine import build, docker, require
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

LABEL = f"knn-container-tests={uuid.uuid4()}"


@pytest.fixture(scope="session", name="docker")
def docker_():
    """Runs a docker command. Containers with the label are removed at the end."""
    require()
    yield docker
    if left := docker("ps", "--all", "--quiet", f"--filter=label={LABEL}").stdout.split():
        docker("rm", "--force", *left)


@pytest.fixture(scope="session")
def image(docker):
    return build("faiss-cpu")


@pytest.fixture(scope="session")
def default_image(docker):
    return build("faiss-gpu")


@dataclass(frozen=True)
class Digits:
    """Scikit-learn's digits as CSV, and what scikit-learn itself makes of them."""

    train_csv: str
    test_csv: str
    queries_csv: str
    queries: list[list[float]]
    accuracy: float
    predictions: np.ndarray
    certain: np.ndarray
    """Which predictions hang on no tie, neither in the votes nor at the k-th distance."""

    def assert_predicted(self, response):
        """Checks a JSON response to the queries."""
        predicted = np.array([it["predicted_label"] for it in json.loads(response)["predictions"]])
        assert predicted.shape == self.predictions.shape
        assert np.array_equal(predicted[self.certain], self.predictions[self.certain])


@pytest.fixture(scope="session")
def digits():
    rows, labels = load_digits(return_X_y=True)
    train, train_labels, test, test_labels = rows[:1500], labels[:1500], rows[1500:], labels[1500:]
    model = KNeighborsClassifier(5, algorithm="brute").fit(train, train_labels)
    distances, neighbours = model.kneighbors(test, 6)
    votes = np.sort([np.bincount(it, minlength=10) for it in train_labels[neighbours[:, :5]]])
    certain = (votes[:, -1] > votes[:, -2]) & (distances[:, 4] < distances[:, 5])
    assert certain.mean() > 0.9
    return Digits(
        train_csv=csv(train_labels, train),
        test_csv=csv(test_labels, test),
        queries_csv=csv(test),
        queries=test.tolist(),
        accuracy=model.score(test, test_labels),
        predictions=model.predict(test),
        certain=certain,
    )


def csv(*columns):
    text = io.StringIO()
    np.savetxt(text, np.column_stack(columns), fmt="%g", delimiter=",")
    return text.getvalue()


@pytest.fixture(scope="session")
def make_job(digits):
    """Lays out a folder as SageMaker lays out /opt/ml for a training job on the digits."""

    def make(folder, mode="File", **hyperparameters):
        channel = {"ContentType": "text/csv;label_size=1", "TrainingInputMode": "File"}
        known = {"feature_dim": "64", "k": "5", "predictor_type": "classifier", "sample_size": "2000"}
        config = {
            "hyperparameters": known | hyperparameters,
            "inputdataconfig": {"train": channel | {"TrainingInputMode": mode}, "test": channel},
            "resourceconfig": {
                "current_host": "algo-1",
                "hosts": ["algo-1"],
                "network_interface_name": "eth0",
            },
        }
        for path in ("input/config", "input/data/train", "input/data/test", "model", "output"):
            (folder / path).mkdir(parents=True)
        for name, content in config.items():
            (folder / f"input/config/{name}.json").write_text(json.dumps(content))
        (folder / "input/data/train/part-0.csv").write_text(digits.train_csv)
        (folder / "input/data/test/part-0.csv").write_text(digits.test_csv)
        return folder

    return make


@pytest.fixture
def job(make_job, tmp_path):
    return make_job(tmp_path / "ml")


@pytest.fixture(scope="session")
def restrictions():
    """Options of a container that has no network, no rights, and of its own only /tmp to write to."""
    return [
        "--network=none",
        "--read-only",
        "--tmpfs=/tmp",
        "--user=1234:1234",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
    ]


# What a container writes belongs to the user who runs the tests, who can then delete it.
COMMON_OPTIONS = ["--label", LABEL, "--user", f"{os.getuid()}:{os.getgid()}"]


@pytest.fixture(scope="session")
def run(docker, image):
    """Runs a container to its end."""

    def run_(*options, command=(), image=image):
        return docker("run", "--rm", *COMMON_OPTIONS, *options, image, *command, check=False)

    return run_


@pytest.fixture(scope="session")
def train(run):
    """Trains on a job's folder and gives the exit code and the log."""

    def train_(job, *options, command=("train",), **kwargs):
        done = run(f"--volume={job}:/opt/ml", *options, command=command, **kwargs)
        return done.returncode, done.stdout + done.stderr

    return train_


@pytest.fixture(scope="session")
def trained(make_job, train, tmp_path_factory):
    """A job's folder after training: `model` holds the model, `output` the archive."""
    folder = make_job(tmp_path_factory.mktemp("trained") / "ml")
    code, log = train(folder)
    assert code == 0, log
    return folder


class Container:
    """A container that runs in the background, and maybe serves."""

    # Runs inside the container, for one without a network: prints the status, then the body.
    CLIENT = """
import sys, urllib.error, urllib.request
url, content_type = sys.argv[1:]
request = urllib.request.Request(url, sys.stdin.buffer.read() or None, {"Content-Type": content_type})
try:
    response = urllib.request.urlopen(request, timeout=60)
except urllib.error.HTTPError as error:
    response = error
print(response.status, response.read().decode())
"""

    def __init__(self, number, port):
        self.number = number
        self.port = port
        self.address = docker("port", number, f"{port}/tcp", check=False).stdout.partition("\n")[0]

    def logs(self):
        done = docker("logs", self.number)
        return done.stdout + done.stderr

    def stop(self):
        """Sends SIGTERM and waits for the end, which a SIGKILL would bring after a minute; gives seconds."""
        begin = time.monotonic()
        docker("stop", "--time=60", self.number)
        return time.monotonic() - begin

    def state(self):
        return json.loads(docker("inspect", "--format={{json .State}}", self.number).stdout)

    def wait_until_ready(self, ping=None, seconds=60):
        ping = ping or self.ping
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.state()["Running"]:
            if ping() == 200:
                return
            time.sleep(0.1)
        pytest.fail(f"/ping did not become 200\n{self.logs()}", pytrace=False)

    def ping(self):
        try:
            return requests.get(f"http://{self.address}/ping", timeout=2).status_code
        except requests.ConnectionError:
            return None

    def invoke(self, body, content_type):
        return requests.post(
            f"http://{self.address}/invocations", body, headers={"Content-Type": content_type}, timeout=60
        )

    def ask_from_inside(self, path, content_type="", body=""):
        """Sends a request from within the container; gives the status (None: no answer) and the body."""
        done = docker(
            *("exec", "--interactive", self.number, "python", "-c", self.CLIENT),
            *(f"http://127.0.0.1:{self.port}{path}", content_type),
            input=body,
            check=False,
        )
        status, _, text = done.stdout.partition(" ")
        return (int(status), text) if done.returncode == 0 else (None, done.stderr)


@pytest.fixture
def start(docker, image):
    """Starts a container in the background, with one of its ports published on this machine."""
    started = []

    def start_(*options, command=("serve",), image=image, port=8080):
        done = docker(*("run", "--detach", f"--publish=127.0.0.1::{port}", *COMMON_OPTIONS, *options, image, *command))
        started.append(done.stdout.strip())
        return Container(started[-1], port)

    yield start_
    if started:
        docker("rm", "--force", *started)
