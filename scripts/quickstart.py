"""A whole job on scikit-learn's handwritten digits, from training to requests; run by scripts/quickstart."""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import requests
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

ROOT = Path(__file__).resolve().parents[1]
HYPERPARAMETERS = {"feature_dim": "64", "k": "5", "predictor_type": "classifier", "sample_size": "2000"}
CHANNEL = {"ContentType": "text/csv;label_size=1", "TrainingInputMode": "File"}
VERBOSE = "application/json; verbose=true"
READY_SECONDS = 60
STOP_SECONDS = 30  # what SageMaker grants
SHADES = " ░▒▓█"


class QuickstartError(Exception):
    """Ends the quickstart; says why, with the log of what failed."""


class Runner(Protocol):
    """Runs `train` and `serve` on a job's folder, laid out like /opt/ml."""

    def train(self, job: Path) -> str:
        """Trains and returns the log."""

    def serve(self, job: Path) -> AbstractContextManager[str]:
        """Serves until the context ends; gives the server's address, where it answers by then."""


class Programs:
    """The programs of .venv."""

    def train(self, job: Path) -> str:
        """Trains and returns the log."""
        return run(ROOT / ".venv/bin/train", env=self._environment(job))

    @contextmanager
    def serve(self, job: Path) -> Iterator[str]:
        """Serves on a free port."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = self._environment(job) | {"SAGEMAKER_BIND_TO_PORT": str(port)}
        with (job / "serve.log").open("w+") as log:
            server = subprocess.Popen([ROOT / ".venv/bin/serve"], env=environment, stdout=log, stderr=log)
            try:
                with logged((job / "serve.log").read_text):
                    address = f"http://127.0.0.1:{port}"
                    wait_until_ready(address, is_running=lambda: server.poll() is None)
                    yield address
                    server.terminate()
                    check_stopped(server.wait(STOP_SECONDS))
            finally:
                server.terminate()
                with suppress(subprocess.TimeoutExpired):
                    server.wait(STOP_SECONDS)
                server.kill()

    @staticmethod
    def _environment(job: Path) -> dict[str, str]:
        return os.environ | {"SAGEMAKER_BASE_DIR": str(job)}


class Containers:
    """Containers of an image that is built first."""

    def __init__(self, faiss: str, image: str) -> None:
        self._image = image
        say("Building", f"the image {image} with {faiss}; it takes a while the first time")
        run(ROOT / "scripts/base-image")
        arguments = [f"--build-arg=FAISS={faiss}"]
        if "PIP_INDEX_URL" in os.environ:
            arguments.append("--build-arg=PIP_INDEX_URL")
        run("docker", "build", *arguments, f"--tag={image}", ROOT)

    def train(self, job: Path) -> str:
        """Trains and returns the log."""
        return run("docker", "run", "--rm", *self._options(job), self._image, "train")

    @contextmanager
    def serve(self, job: Path) -> Iterator[str]:
        """Serves on a port that Docker chooses."""
        options = ["--detach", "--publish=127.0.0.1::8080", *self._options(job)]
        container = run("docker", "run", *options, self._image, "serve").strip()
        try:
            with logged(lambda: run("docker", "logs", container)):
                address = f"http://{run('docker', 'port', container, '8080/tcp').splitlines()[0]}"
                wait_until_ready(address, is_running=lambda: inspect(container, "{{.State.Running}}") == "true")
                yield address
                run("docker", "stop", "-t", str(STOP_SECONDS), container)
                check_stopped(int(inspect(container, "{{.State.ExitCode}}")))
        finally:
            run("docker", "rm", "--force", container)

    @staticmethod
    def _options(job: Path) -> list[str]:
        # What the container writes so belongs to the person who runs this.
        return [f"--volume={job}:/opt/ml", f"--user={os.getuid()}:{os.getgid()}"]


def inspect(container: str, what: str) -> str:
    """Asks Docker about a container."""
    return run("docker", "inspect", f"--format={what}", container).strip()


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Runs a command to its end and returns what it printed."""
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise QuickstartError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


@contextmanager
def logged(log: Callable[[], str]) -> Iterator[None]:
    """Adds the server's log to what goes wrong while it serves."""
    try:
        yield
    except (QuickstartError, requests.RequestException, subprocess.TimeoutExpired) as error:
        raise QuickstartError(f"{error}\nThe server's log:\n{log()}") from error


def wait_until_ready(address: str, is_running: Callable[[], bool]) -> None:
    """Waits until /ping answers with 200."""
    deadline = time.monotonic() + READY_SECONDS
    answer = "no answer"
    while is_running() and time.monotonic() < deadline:
        try:
            response = requests.get(f"{address}/ping", timeout=2)
        except requests.RequestException:
            time.sleep(0.05)
            continue
        if response.ok:
            return
        answer = response.text
        time.sleep(0.05)
    raise QuickstartError(f"The server did not become ready: {answer}")


def check_stopped(status: int) -> None:
    """Checks the exit status after SIGTERM."""
    if status != 0:
        raise QuickstartError(f"The server ended with {status} after SIGTERM.")


class Digits:
    """1,797 images of 8 by 8 pixels, each from 0 to 16; a fifth of them to test with."""

    def __init__(self) -> None:
        images, labels = load_digits(return_X_y=True)
        self.train, self.test, self.train_labels, self.truth = train_test_split(
            images, labels, test_size=0.2, random_state=0, stratify=labels
        )


def write_job(folder: Path, digits: Digits) -> None:
    """Lays out a training job as SageMaker does below /opt/ml."""
    for path in ("input/config", "input/data/train", "input/data/test", "model", "output"):
        (folder / path).mkdir(parents=True)
    for name, content in {
        "hyperparameters": HYPERPARAMETERS,
        "inputdataconfig": {"train": CHANNEL, "test": CHANNEL},
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"},
    }.items():
        (folder / f"input/config/{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "input/data/train/digits.csv").write_text(csv(np.column_stack([digits.train_labels, digits.train])))
    (folder / "input/data/test/digits.csv").write_text(csv(np.column_stack([digits.truth, digits.test])))


def csv(rows: NDArray[np.float64]) -> str:
    """Writes a row a line."""
    return "".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows)


class Client:
    """Sends requests over one connection."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between this machine and itself

    def ask(self, body: str, content_type: str, accept: str = "application/json") -> list[dict[str, Any]]:
        """Returns the predictions."""
        response = self._session.post(
            f"{self._address}/invocations",
            body,
            headers={"Content-Type": content_type, "Accept": accept},
            timeout=60,
        )
        if not response.ok:
            raise QuickstartError(f"The server refused a request with {response.status_code}: {response.text}")
        predictions: list[dict[str, Any]] = response.json()["predictions"]
        return predictions

    def seconds(self, body: str, repeats: int) -> float:
        """Times a CSV request: the median of some."""
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            self.ask(body, "text/csv")
            times.append(time.perf_counter() - started)
        return float(np.median(times))


def show_answers(client: Client, digits: Digits) -> None:
    """Asks about the test digits in CSV and JSON; prints some, the accuracy and the timing."""
    answers = client.ask(csv(digits.test), "text/csv")
    instances = [{"features": image.tolist()} for image in digits.test]
    verbose = client.ask(json.dumps({"instances": instances}), "application/json", VERBOSE)
    predicted = np.array([answer["predicted_label"] for answer in answers])
    if predicted.tolist() != [answer["predicted_label"] for answer in verbose]:
        raise QuickstartError("The server predicts one thing from CSV and another from JSON.")

    right = predicted == digits.truth
    shown = [*np.flatnonzero(right)[:3], *np.flatnonzero(~right)[:1]]
    print(f"\nFour of {len(right)} digits that it has not seen:\n")
    print(side_by_side([drawing(digits.test[i]) for i in shown]))
    print(side_by_side([[f"predicted {predicted[i]:g}", f"truth     {digits.truth[i]}"] for i in shown]))
    hardest = verbose[shown[-1]]
    print(f"\nThe neighbours that voted on the last one (Accept: {VERBOSE}), nearest first:\n")
    print("    label           ", *(f"{label:6g}" for label in hardest["labels"]))
    print("    squared distance", *(f"{distance:6g}" for distance in hardest["distances"]))

    batch = csv(np.tile(digits.test, (10, 1)))
    one = client.seconds(csv(digits.test[:1]), repeats=200)
    many = client.seconds(batch, repeats=5)
    rows = batch.count("\n")
    print()
    say("Accuracy", f"{right.mean():.4f}, {right.sum()} of {len(right)} right")
    say("One row", f"{one * 1e3:.1f} ms, median of 200 requests over one connection")
    say("A batch", f"{rows / many:,.0f} rows/second, {rows:,} rows of CSV in one request")


def drawing(image: NDArray[np.float64]) -> list[str]:
    """Draws 8 by 8 pixels."""
    shades = np.ceil(image / 4).astype(int).reshape(8, 8)
    return ["".join(SHADES[shade] * 2 for shade in row) for row in shades]


def side_by_side(blocks: list[list[str]]) -> str:
    """Puts blocks of as many lines beside each other, each 16 characters wide."""
    return "\n".join("   " + "   ".join(f"{line:16}" for line in lines) for lines in zip(*blocks, strict=True))


def say(what: str, text: str) -> None:
    """Prints a line with a word in front."""
    print(f"{what:10} {text}", flush=True)


def quickstart(job: Path, make_runner: Callable[[], Runner]) -> None:
    """Trains, serves and asks."""
    digits = Digits()
    say("Digits", f"{len(digits.train):,} images to train on, {len(digits.test)} to test with, 64 pixels each")
    runner = make_runner()
    write_job(job, digits)
    started = time.perf_counter()
    log = runner.train(job)
    (job / "train.log").write_text(log)
    seconds = time.perf_counter() - started
    score = re.search(r"#quality_metric: .*accuracy.*", log)
    say("Trained", f"in {seconds:.1f} s; its log says {score[0] if score else 'nothing of a score'}")
    started = time.perf_counter()
    with runner.serve(job) as address:
        say("Serving", f"on {address}, ready after {time.perf_counter() - started:.1f} s")
        show_answers(Client(address), digits)
    say("Stopped", "the server has drained and ended")


def next_steps(kept: str | None, image: str | None) -> str:
    """Says what to type next."""
    folder = kept or "digits"
    serve = (
        f'docker run --rm --publish 127.0.0.1:8080:8080 --volume "$(realpath {folder})":/opt/ml {image} serve'
        if image
        else f"SAGEMAKER_BASE_DIR={folder} .venv/bin/serve"
    )
    keep = [] if kept else [f"scripts/quickstart {'--docker ' if image else ''}--keep {folder}"]
    ask = (
        f"head -1 {folder}/input/data/test/digits.csv | curl --data-binary @- \\\n"
        f"        -H 'Content-Type: text/csv; label_size=1' -H 'Accept: {VERBOSE}' \\\n"
        "        http://127.0.0.1:8080/invocations"
    )
    steps = "\n".join(f"    {step}" for step in [*keep, f"{serve}    # ends with Ctrl-C"])
    return f"\nTo ask it yourself, serve it again,\n\n{steps}\n\nand ask from another terminal:\n\n    {ask}"


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser("scripts/quickstart")
    parser.add_argument("--docker", action="store_true", help="in containers")
    parser.add_argument("--gpu", action="store_true", help="in containers of the image that can use a GPU")
    parser.add_argument("--keep", metavar="FOLDER", help="keeps the job's folder")
    options = parser.parse_args()
    if options.keep and Path(options.keep).exists():
        parser.error(f"{options.keep} exists already")
    faiss, image = ("faiss-gpu", "knn-container") if options.gpu else ("faiss-cpu", "knn-container:cpu")
    containers = options.docker or options.gpu
    # An end by SIGTERM cleans up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as cleanup:
        if options.keep:
            job = Path(options.keep).resolve()
        else:
            job = Path(cleanup.enter_context(TemporaryDirectory(prefix="knn-container-")))
        try:
            quickstart(job, (lambda: Containers(faiss, image)) if containers else Programs)
        except QuickstartError as failure:
            print(failure, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
    print(next_steps(options.keep, image if containers else None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
