"""Measures training in containers: on several hosts, and on data sets of growing size with a sample that stays.

    .venv/bin/python -m benchmarks.training --hosts 1 2 4

It needs a Docker engine, makes its data in a temporary folder, and prints two tables in Markdown. CPU time and the
peak of resident memory are those that the kernel counts for the job's process and all of its children; bytes sent are
those of the container's network interface.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import readme
from benchmarks.programs import ROOT, BenchmarkError, cpu_name, run, say
from benchmarks.readme import table
from benchmarks.records import Frames

IMAGE = "knn-container:benchmark"
RECORDIO = "application/x-recordio-protobuf"
CLASSES = 7
BLOCK = 100_000  # rows that are made at a time
MARK = "#measured "

# Runs in the container, as the process that Docker starts, and the job as its child.
WRAPPER = f"""
import json, pathlib, resource, subprocess, sys
status = subprocess.call(["knn-container", "train"])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cards = [it for it in pathlib.Path("/sys/class/net").iterdir() if it.name != "lo"]
sent = sum(int((it / "statistics/tx_bytes").read_text()) for it in cards)
found = {{"cpu": used.ru_utime + used.ru_stime, "peak": 1024 * used.ru_maxrss, "sent": sent}}
print({MARK!r} + json.dumps(found), flush=True)
sys.exit(status)
"""

VERSIONS = """
import platform
from importlib.metadata import version
print(", ".join([f"Python {platform.python_version()}", *(f"{it} {version(it)}" for it in PACKAGES)]))
"""
PACKAGES = ("faiss-cpu", "numpy", "distributed")


@dataclass(frozen=True)
class Used:
    """What one host used.

    Attributes:
        cpu: seconds, of the system too.
        peak: bytes of resident memory, of the largest process.
        sent: bytes.
    """

    cpu: float
    peak: int
    sent: int


@dataclass(frozen=True)
class Measured:
    """One job.

    Attributes:
        seconds: from the start of its first container to the end of its last.
        hosts: the leader first.
        model: the SHA-256 of its manifest, which has those of its other files.
    """

    seconds: float
    hosts: list[Used]
    model: str


def build() -> str:
    """Builds the image from the working tree."""
    arguments = ["--build-arg=FAISS=faiss-cpu"]
    if "PIP_INDEX_URL" in os.environ:
        arguments.append("--build-arg=PIP_INDEX_URL")
    run("docker", "build", *arguments, f"--tag={IMAGE}", ROOT)
    return IMAGE


class Rows:
    """Labelled rows of float32: a class is a cloud around a point of its own.

    Args:
        columns: features in a row.
        seed: the same rows every time.
    """

    def __init__(self, columns: int, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._centres = self._random.normal(size=(CLASSES, columns)).astype(np.float32)
        self._frames = Frames(columns)

    def write(self, path: Path, count: int) -> None:
        """Writes the next rows as a RecordIO file: one record many times over, each with its own numbers."""
        with path.open("wb") as file:
            for start in range(0, count, BLOCK):
                size = min(BLOCK, count - start)
                labels = self._random.integers(0, CLASSES, size)
                features = self._random.standard_normal((size, self._centres.shape[1]), np.float32)
                features += self._centres[labels]
                file.write(self._frames.encode(features, labels))


@dataclass(frozen=True)
class Data:
    """Files to train on and to test with, of as many rows each."""

    train: list[Path]
    test: list[Path]

    @classmethod
    def make(cls, folder: Path, given: argparse.Namespace) -> "Data":
        """Makes them."""
        rows = Rows(given.columns)
        channels: dict[str, list[Path]] = {}
        for channel, count in (("train", given.rows), ("test", given.test_rows)):
            (folder / channel).mkdir()
            channels[channel] = [folder / channel / f"part-{number:02}.pbr" for number in range(given.files)]
            for number, path in enumerate(channels[channel]):
                rows.write(path, count // given.files + (number < count % given.files))
        return cls(**channels)


class Jobs:
    """Runs jobs in containers.

    Args:
        image: with `train` in it.
        folder: for the jobs' folders, on the file system of the data.
        cpus: that each container gets; None for all.
    """

    def __init__(self, image: str, folder: Path, cpus: float | None) -> None:
        self._image = image
        self._folder = folder
        self._limits = [] if cpus is None else [f"--cpus={cpus}"]

    def train(self, hosts: int, channels: dict[str, list[Path]], sample: int) -> Measured:
        """Trains on so many hosts, to which the files are dealt out as SageMaker does."""
        names = [f"algo-{number + 1}" for number in range(hosts)]
        folder = self._folder / "job"
        for at, name in enumerate(names):
            dealt = {channel: files[at::hosts] for channel, files in channels.items()}
            self._lay_out(folder / name, name, names, dealt, sample)
        try:
            with self._network() as network:
                numbers = [self._start(network, name, folder / name) for name in names]
                codes = run("docker", "wait", *numbers).split()
                logs = {name: run("docker", "logs", number) for name, number in zip(names, numbers, strict=True)}
                if set(codes) != {"0"}:
                    raise BenchmarkError(f"A job ended with {codes}:\n{logs}")
                ends = [inspect(number, "State.FinishedAt") for number in numbers]
                begins = [inspect(number, "State.StartedAt") for number in numbers]
            manifest = (folder / names[0] / "model/manifest.json").read_bytes()
        finally:
            shutil.rmtree(folder)
        seconds = (max(map(datetime.fromisoformat, ends)) - min(map(datetime.fromisoformat, begins))).total_seconds()
        return Measured(seconds, [used(logs[name]) for name in names], hashlib.sha256(manifest).hexdigest())

    @staticmethod
    def _lay_out(base: Path, name: str, names: Sequence[str], files: dict[str, list[Path]], sample: int) -> None:
        channel = {"ContentType": RECORDIO, "TrainingInputMode": "File", "S3DistributionType": "ShardedByS3Key"}
        documents = {
            "hyperparameters": {"k": "10", "predictor_type": "classifier", "sample_size": str(sample)},
            "inputdataconfig": dict.fromkeys(files, channel),
            "resourceconfig": {"current_host": name, "hosts": names, "network_interface_name": "eth0"},
        }
        for path in ("input/config", "model", "output"):
            (base / path).mkdir(parents=True)
        for document, content in documents.items():
            (base / f"input/config/{document}.json").write_text(json.dumps(content))
        for channel_name, paths in files.items():
            (base / "input/data" / channel_name).mkdir(parents=True)
            for file in paths:
                (base / "input/data" / channel_name / file.name).hardlink_to(file)

    @contextmanager
    def _network(self) -> Iterator[str]:
        """A network of its own, which goes with all that is on it."""
        name = f"knn-benchmark-{uuid.uuid4().hex[:12]}"
        run("docker", "network", "create", name)
        try:
            yield name
        finally:
            if left := run("docker", "ps", "--all", "--quiet", f"--filter=label={name}").split():
                run("docker", "rm", "--force", *left)
            run("docker", "network", "rm", name)

    def _start(self, network: str, name: str, base: Path) -> str:
        return run(
            *("docker", "run", "--detach", f"--label={network}", f"--network={network}", f"--network-alias={name}"),
            *(f"--hostname={name}", f"--user={os.getuid()}:{os.getgid()}", f"--volume={base}:/opt/ml"),
            *(*self._limits, "--entrypoint=python", self._image, "-c", WRAPPER),
        )


def inspect(container: str, what: str) -> str:
    """Asks Docker about a container."""
    return run("docker", "inspect", f"--format={{{{.{what}}}}}", container)


def used(log: str) -> Used:
    """Reads what the wrapper said."""
    (line,) = [line for line in log.splitlines() if line.startswith(MARK)]
    return Used(**json.loads(line.removeprefix(MARK)))


def measure_hosts(jobs: Jobs, data: Data, given: argparse.Namespace) -> str:
    """Trains on the same data on several numbers of hosts and returns the table."""
    rows, models = [], set()
    for test_rows, channels in (
        (0, {"train": data.train}),
        (given.test_rows, {"train": data.train, "test": data.test}),
    ):
        for hosts in given.hosts:
            found = jobs.train(hosts, channels, given.sample)
            models.add(found.model)
            say(f"{hosts} hosts, {test_rows} test rows: {found}")
            figures = (each(it, found.hosts) for it in ("cpu", "sent", "peak"))
            rows.append((f"{test_rows:,}", str(hosts), f"{found.seconds:.1f}", *figures))
    if len(models) != 1:
        raise BenchmarkError(f"The hosts made {len(models)} different models of the same data.")
    heads = ("test rows", "hosts", "seconds", "CPU seconds of each host", "MB sent by each", "peak memory of each, MB")
    limit = "" if given.cpus is None else f", {given.cpus:g} CPUs for each host"
    return table(heads, rows) + (
        f"\n{given.rows:,} rows of {given.columns} float32 in {given.files} files of RecordIO, sharded; "
        f"a sample of {given.sample:,}{limit}; the leader's figures come first. The model is the same each time.\n"
    )


def each(what: str, hosts: Sequence[Used]) -> str:
    """Writes a figure of every host, the leader's first."""
    scale = {"cpu": 1.0, "sent": 1e-6, "peak": 1e-6}[what]
    return ", ".join(f"{scale * getattr(host, what):.{0 if what == 'peak' else 1}f}" for host in hosts)


def measure_memory(jobs: Jobs, data: Data, given: argparse.Namespace) -> str:
    """Trains on parts of the data with a sample that stays and returns the table."""
    rows = []
    for times in given.sizes:
        files = data.train[: times * len(data.train) // max(given.sizes)]
        size = sum(path.stat().st_size for path in files)
        found = jobs.train(1, {"train": files}, given.memory_sample)
        say(f"{times} times: {found}")
        (host,) = found.hosts
        rows.append((f"{size / 1e6:,.0f}", f"{host.peak / 1e6:.0f}", f"{found.seconds:.1f}"))
    return table(("MB of data", "peak memory, MB", "seconds"), rows) + (
        f"\nOne host; a sample of {given.memory_sample:,} rows of {given.columns} float32, "
        f"{4 * given.columns * given.memory_sample / 1e6:.0f} MB.\n"
    )


def machine(image: str) -> str:
    """Names the machine, the engine, the versions in the image and the day."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    programs = run("docker", "run", "--rm", "--entrypoint=python", image, "-c", f"PACKAGES = {PACKAGES!r}\n{VERSIONS}")
    return (
        f"\nMeasured on {datetime.now(UTC):%Y-%m-%d} with `benchmarks/training.py`, all containers on one machine: "
        f"{os.cpu_count()} CPUs ({cpu_name()}), {memory / 1e9:.0f} GB, "
        f"Docker {run('docker', 'version', '--format={{.Server.Version}}')}, {programs}.\n"
    )


PARTS = {"hosts": measure_hosts, "memory": measure_memory}


def options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser("benchmarks.training", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 2, 4], help="numbers of hosts")
    parser.add_argument("--rows", type=int, default=4_000_000, help="rows to train on")
    parser.add_argument("--columns", type=int, default=54, help="features in a row")
    parser.add_argument("--files", type=int, default=16, help="files that the rows are in")
    parser.add_argument("--sample", type=int, default=200_000, help="rows that the hosts keep")
    parser.add_argument("--test-rows", type=int, default=58_102, help="rows that are scored")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16], help="sizes of the data, as multiples")
    parser.add_argument("--memory-sample", type=int, default=50_000, help="rows kept of data of each size")
    parser.add_argument("--only", choices=PARTS, help="measures one of the two")
    parser.add_argument("--cpus", type=float, help="CPUs for each container; all, unless given")
    parser.add_argument("--image", help="an image; else it is built from the working tree")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is to be")
    parser.add_argument("--write", action="store_true", help="puts the tables into README.md")
    given = parser.parse_args()
    if max(given.sizes) > given.files:
        parser.error(f"--files is {given.files}, expected at least the largest of --sizes, {max(given.sizes)}")
    return given


def main() -> int:
    """Measures, prints and, if told so, writes; returns the exit status."""
    given = options()
    wanted = [given.only] if given.only else list(PARTS)
    try:
        if given.write:  # fails before it measures
            readme.check(wanted)
        image = given.image or build()
        where = machine(image)
        with TemporaryDirectory(dir=given.folder) as folder:
            data = Data.make(Path(folder), given)
            jobs = Jobs(image, Path(folder), given.cpus)
            found = {name: PARTS[name](jobs, data, given) + where for name in wanted}
    except (BenchmarkError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    for part in found.values():
        print(part)
    if given.write:
        readme.write(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
