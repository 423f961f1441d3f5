"""This project's own programs, `train` and `serve`, on the folder of a job."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.programs import BenchmarkError, free_port, say, wait_until

RECORDIO = "application/x-recordio-protobuf"
_BIN = Path(sys.executable).parent
_LOOK = 0.02  # seconds between looks at a process's memory
_READY_SECONDS, _SETTLE_SECONDS, _STOP_SECONDS = 60, 15, 30
_SETTLED = re.compile(r"settled\.$", re.MULTILINE)


@dataclass(frozen=True)
class Used:
    """What a program used from its start to its end: seconds, CPU seconds, and bytes of resident memory."""

    seconds: float
    cpu: float
    peak: int


def lay_out(job: Path, hyperparameters: Mapping[str, object], content_type: str = RECORDIO) -> dict[str, Path]:
    """Makes the folder of a job as SageMaker has it; returns the folders of its channels, which are empty."""
    for path in ("input/config", "model", "output"):
        (job / path).mkdir(parents=True)
    channels = {name: job / "input/data" / name for name in ("train", "test")}
    for folder in channels.values():
        folder.mkdir(parents=True)
    config = {"ContentType": content_type, "TrainingInputMode": "File"}
    documents = {
        "hyperparameters": {name: str(value) for name, value in hyperparameters.items()},
        "inputdataconfig": {"train": config, "test": config},
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"},
    }
    for name, document in documents.items():
        (job / f"input/config/{name}.json").write_text(json.dumps(document))
    return channels


def without_test(job: Path) -> None:
    """Takes the test channel out of a job."""
    path = job / "input/config/inputdataconfig.json"
    path.write_text(json.dumps({"train": json.loads(path.read_text())["train"]}))
    (job / "input/data/test").rmdir()


def train(job: Path) -> Used:
    """Trains, from the start of the process to its end."""
    with (job / "train.log").open("w+") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            [_BIN / "train"], env=os.environ | {"SAGEMAKER_BASE_DIR": str(job)}, stdout=log, stderr=log
        )
        with _peaks(process.pid) as peaks:
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise BenchmarkError(f"train ended with {process.returncode}:\n{log.read()}")
    return Used(seconds, used.ru_utime + used.ru_stime, max(peaks))


@contextmanager
def _peaks(pid: int) -> Iterator[list[int]]:
    """Looks again and again at the peak of a process's resident memory; `ru_maxrss` counts its parent's too."""
    peaks, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(_LOOK):
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                peaks.extend(1024 * int(found) for found in re.findall(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Served:
    """A server that runs.

    Attributes:
        title: for tables.
        port: of the loopback interface.
        pid: of its first process.
        started: seconds from the start of its process to the first 200 of its health route.
    """

    title: str
    port: int
    pid: int
    started: float


@contextmanager
def running(
    title: str, command: list[str | Path], port: int, *, health: str, log: Path, cwd: Path, env: Mapping[str, str] = {}
) -> Iterator[Served]:
    """Runs a server until the context ends; it is healthy when it is given."""
    with log.open("w+") as file:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env=os.environ | env, cwd=cwd, stdout=file, stderr=file, start_new_session=True
        )
        try:
            ready = wait_until(lambda: process.poll() is not None or answers(port, health), _READY_SECONDS, 0.005)
            if not ready or process.poll() is not None:
                raise BenchmarkError(f"{title} did not become ready:\n{log.read_text()[-2000:]}")
            yield Served(title, port, process.pid, time.perf_counter() - start)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port: int, path: str) -> bool:
    """Whether a server answers with 200."""
    with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


@contextmanager
def serving(job: Path, title: str = "knn-container", **settings: str) -> Iterator[Served]:
    """Runs `serve` on a trained job; its search has settled when it is given."""
    port = free_port()
    env = {"SAGEMAKER_BASE_DIR": str(job), "SAGEMAKER_BIND_TO_PORT": str(port)} | settings
    log = job / "serve.log"
    with running(title, [_BIN / "serve"], port, health="/ping", log=log, cwd=job, env=env) as server:
        workers = children(server.pid)
        if not wait_until(lambda: len(_SETTLED.findall(log.read_text())) >= len(workers), _SETTLE_SECONDS):
            say(f"{title} has not said in {_SETTLE_SECONDS} s that its search has settled; going on.")
        yield server


def children(pid: int) -> list[int]:
    """The processes that a process has started, the oldest first."""
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
