"""A training job on several hosts: containers on a Docker network of their own, each with an /opt/ml of its own."""

import fcntl
import hashlib
import json
import os
import struct
import subprocess
import termios
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from docker_engine import docker

LISTENING = "0A"  # a socket's state in /proc/net/tcp
RESOLVER = "127.0.0.11"  # Docker's own, which listens in every container of such a network
MODEL = {"manifest.json", "index.faiss", "labels.npy", "ids.npy"}


@dataclass
class Host:
    """One container, or the place for one.

    Attributes:
        name: as `resourceconfig.json` has it.
        folder: its /opt/ml on this machine.
        model: the folder that is its /opt/ml/model.
        options: of `docker run`.
        number: the container's, once it has started.
    """

    name: str
    folder: Path
    model: Path
    options: list[str]
    number: str | None = None
    code: int | None = field(default=None, init=False)

    @property
    def output(self):
        return self.folder / "output"

    @property
    def failure(self):
        """What the platform would show; None where there is nothing."""
        path = self.output / "failure"
        return path.read_text() if path.exists() else None

    def log(self):
        done = docker("logs", self.number)
        return done.stdout + done.stderr

    def state(self):
        return json.loads(docker("inspect", "--format={{json .State}}", self.number).stdout)

    def ended(self):
        """When the container ended, in seconds since 1970."""
        return datetime.fromisoformat(self.state()["FinishedAt"]).timestamp()

    def run(self, *command):
        """Runs a command beside the job, and gives what it prints."""
        return docker("exec", self.number, *command).stdout

    def address(self, network):
        settings = docker("inspect", "--format={{json .NetworkSettings.Networks}}", self.number).stdout
        return json.loads(settings)[network]["IPAddress"]

    def listening(self):
        """(address, port) of all that listens for TCP in the container, as the kernel tells it."""
        tables = self.run("cat", "/proc/net/tcp", "/proc/net/tcp6")
        rows = [line.split() for line in tables.splitlines() if ":" in line.split()[0]]
        found = [_endpoint(row[1]) for row in rows if row[3] == LISTENING]
        return [it for it in found if it[0] != RESOLVER]


def _endpoint(text):
    """Reads an address as /proc/net writes it: each 32 bits in the machine's order, in hexadecimal."""
    address, port = text.split(":")
    packed = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
    if len(packed) == 4:
        return ".".join(map(str, packed)), int(port, 16)
    return packed.hex(":", 2), int(port, 16)


class Hosts:
    """The hosts of one job, in the order of their names; a context that leaves no container and no network.

    Args:
        image: to run.
        folder: for the hosts' folders.
        names: of the hosts.
        options: of every container.
    """

    def __init__(self, image, folder, names, options=()):
        self._image = image
        self._name = f"knn-hosts-{uuid.uuid4().hex[:12]}"
        self._options = [f"--user={os.getuid()}:{os.getgid()}", *options]
        self._hosts = {
            name: Host(name, folder / name, folder / name / "model", [f"--volume={folder / name}:/opt/ml"])
            for name in sorted(names)
        }

    def __enter__(self):
        docker("network", "create", f"--label={self._name}", self._name)
        return self

    def __exit__(self, *_):
        if left := docker("ps", "--all", "--quiet", f"--filter=label={self._name}").stdout.split():
            docker("rm", "--force", "--volumes", *left)
        docker("network", "rm", self._name)

    def __iter__(self):
        return iter(self._hosts.values())

    def __getitem__(self, name):
        return self._hosts[name]

    @property
    def leader(self):
        return next(iter(self))

    @property
    def followers(self):
        return [*self][1:]

    def lay_out(self, files, channels, *, interface="eth0", **hyperparameters):
        """Writes each host's folder as SageMaker does.

        Args:
            files: by the host's name, its files' content by path below `input/data`.
            channels: what `inputdataconfig.json` says.
            interface: what `resourceconfig.json` says.
            hyperparameters: those of the job.
        """
        known = {"k": "5", "predictor_type": "classifier", "sample_size": "2000"}
        known |= {name: str(value) for name, value in hyperparameters.items()}
        for host in self:
            documents = {
                "hyperparameters": known,
                "inputdataconfig": channels,
                "resourceconfig": {
                    "current_host": host.name,
                    "hosts": [*self._hosts][::-1],  # nothing promises an order
                    "network_interface_name": interface,
                },
            }
            for path in ("input/config", "input/data", "model", "output"):
                (host.folder / path).mkdir(parents=True)
            for name, document in documents.items():
                (host.folder / f"input/config/{name}.json").write_text(json.dumps(document))
            for name, channel in channels.items():
                if channel["TrainingInputMode"] == "Pipe":
                    os.mkfifo(host.folder / f"input/data/{name}_0")
                else:
                    (host.folder / f"input/data/{name}").mkdir()
            write(host.folder / "input/data", files.get(host.name, {}))

    def share(self, folder, channels):
        """Mounts what the SDK's local mode mounts: one model folder for all hosts, and one folder for each channel.

        Args:
            folder: holds `model` and, by name, the channels.
            channels: their names.
        """
        for host in self:
            host.model = folder / "model"
            (host.output / "data").mkdir()
            mounts = {f"{host.folder}/{it}": it for it in ("input", "output", "output/data")}
            mounts |= {f"{folder}/model": "model"} | {f"{folder}/{it}": f"input/data/{it}" for it in channels}
            host.options = [f"--volume={here}:/opt/ml/{there}" for here, there in mounts.items()]

    def start(self, *names, command=("train",), options=()):
        """Starts some hosts, all if none is named, without waiting for anything."""
        for host in [self[name] for name in names] or self:
            identity = (f"--network={self._name}", f"--network-alias={host.name}", f"--hostname={host.name}")
            done = docker(
                *("run", "--detach", f"--label={self._name}", *identity),
                *(*self._options, *host.options, *options, self._image, *command),
            )
            host.number = done.stdout.strip()

    @property
    def started(self):
        return [host for host in self if host.number]

    def wait(self, *names, seconds=120):
        """Waits until some hosts have ended, all that were started if none is named; gives their exit codes."""
        waited = [self[name] for name in names] or self.started
        try:
            done = docker("wait", *(host.number for host in waited), timeout=seconds)
        except subprocess.TimeoutExpired:
            self.fail(f"{', '.join(it.name for it in waited)}: no end within {seconds} seconds")
        for host, code in zip(waited, done.stdout.split(), strict=True):
            host.code = int(code)
        return {host.name: host.code for host in waited}

    def signal(self, name, *names):
        """Sends a signal to some hosts at once, to all that were started if none is named."""
        docker("kill", f"--signal={name}", *(host.number for host in self.started if host.name in names or not names))

    def pause(self, name):
        docker("pause", self[name].number)

    def unpause(self, name):
        docker("unpause", self[name].number)

    def address(self, name):
        return self[name].address(self._name)

    def running(self):
        return all(host.state()["Running"] for host in self.started)

    def fail(self, reason):
        logs = "\n".join(f"===== {host.name}: {host.failure}\n{host.log()}" for host in self.started)
        pytest.fail(f"{reason}\n{logs}", pytrace=False)

    def succeed(self, seconds=120):
        """Waits for all hosts: each exits with 0, only the leader leaves a model, and none is gone before that."""
        codes = self.wait(seconds=seconds)
        if set(codes.values()) != {0}:
            self.fail(f"expected that every host exits with 0: {codes}")
        assert {host.name: host.failure for host in self} == dict.fromkeys(self._hosts)
        assert {it.name for it in self.leader.model.iterdir()} == MODEL
        complete = max(path.stat().st_mtime for path in self.artifacts())
        for host in self:
            assert host.ended() >= complete, f"{host.name} was gone before the model was on disk"
        for host in self.followers:
            assert not (host.output / "model.tar.gz").exists()
            assert list(host.output.rglob("evaluation.*")) == []
            if host.model != self.leader.model:
                assert [*host.model.iterdir()] == []
        return self

    def artifacts(self):
        archive = self.leader.output / "model.tar.gz"
        return [*self.leader.model.iterdir(), *([archive] if archive.exists() else [])]

    def failed(self, *names, starts, contains, seconds=60):
        """Waits for some hosts, all that were started if none is named: each exits with 1 and says why."""
        codes = self.wait(*names, seconds=seconds)
        failures = {name: self[name].failure for name in codes}
        for name, code in codes.items():
            failure = failures[name]
            if code != 1 or not failure or not failure.startswith(starts) or any(it not in failure for it in contains):
                self.fail(f"{name}: expected exit code 1 and a failure {starts}...{contains}: {code}, {failures}")
        assert not (self.leader.model / "manifest.json").exists()
        assert not (self.leader.output / "model.tar.gz").exists()

    @contextmanager
    def reading(self, rows, channel="train"):
        """Within it the hosts are in mid-work: each has read what it was sent and waits for more.

        Args:
            rows: by the host's name, the bytes to send, at most 64 KiB each.
            channel: read in Pipe mode.
        """
        with ExitStack() as stack:
            pipes = {name: stack.enter_context(self.open_pipe(name, channel)) for name in rows}
            for name, data in rows.items():
                pipes[name].write(data)
            for pipe in pipes.values():
                pipe.wait_until_read()
            yield

    @contextmanager
    def open_pipe(self, name, channel="train", seconds=60):
        """Waits until a host opens its end of a pipe, and gives the other; closing it ends the channel's data."""
        path = self[name].folder / f"input/data/{channel}_0"
        deadline = time.monotonic() + seconds
        while (end := _open_for_writing(path)) is None:
            if not self.running() or time.monotonic() > deadline:
                self.fail(f"{name} does not open {path.name}")
            time.sleep(0.05)
        try:
            yield Pipe(self, end)
        finally:
            os.close(end)


def _open_for_writing(path):
    try:
        end = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # ENXIO: nobody reads
        return None
    os.set_blocking(end, True)
    return end


class Pipe:
    """The writing end of a pipe that a host reads."""

    def __init__(self, hosts, end):
        self._hosts = hosts
        self._end = end

    def write(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self._end, view) :]

    def unread(self):
        return struct.unpack("i", fcntl.ioctl(self._end, termios.FIONREAD, bytes(4)))[0]

    def wait_until_read(self, seconds=60):
        deadline = time.monotonic() + seconds
        while self.unread():
            if not self._hosts.running() or time.monotonic() > deadline:
                self._hosts.fail("a pipe is not read")
            time.sleep(0.05)


def write(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def model_of(folder):
    """What a model folder holds: the manifest as it is, of the other files the SHA-256."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    manifest = files.pop("manifest.json").decode()
    return {"manifest.json": manifest} | {name: hashlib.sha256(it).hexdigest() for name, it in files.items()}


def shards(files, names):
    """Deals each channel's files out as SageMaker does with ShardedByS3Key: a file to one host."""
    dealt = {name: {} for name in names}
    for channel in {path.partition("/")[0] for path in files}:
        mine = sorted(path for path in files if path.startswith(f"{channel}/"))
        for at, name in enumerate(names):
            dealt[name] |= {path: files[path] for path in mine[at :: len(names)]}
    return dealt
