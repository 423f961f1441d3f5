"""One training job of several processes, each a host with an address of its own on the loopback interface."""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BIN = Path(sys.executable).parent
CSV, RECORDIO = "text/csv", "application/x-recordio-protobuf"
SHARDED, REPLICATED = "ShardedByS3Key", "FullyReplicated"
LISTENING = "0A"  # a socket's state in /proc/net/tcp
PORT = 8786  # of the host that leads
LOST_SECONDS = 60
TLS_ALERT = b"\x15"


class Hosts:
    """The processes of one job; a context that leaves none.

    Args:
        bases: the hosts' folders by their names, in sorted order; the first leads.
    """

    def __init__(self, bases):
        self.bases = bases
        self.names = list(bases)
        self.leader, *self.followers = bases
        self.processes = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def start(self, *names, **variables):
        """Starts hosts, all if none is named."""
        inherited = {name: it for name, it in os.environ.items() if not name.startswith(("SAGEMAKER_", "TRAINING_"))}
        for name in names or self.names:
            given = {"SAGEMAKER_BASE_DIR": self.bases[name], "OMP_NUM_THREADS": 1, **variables}
            with (self.bases[name] / "log").open("wb") as log:
                self.processes[name] = subprocess.Popen(
                    [BIN / "train"],
                    env=inherited | {variable: str(value) for variable, value in given.items()},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )

    def signal(self, number, *names):
        for name in names or self.processes:
            self.processes[name].send_signal(number)

    def wait(self, *names, seconds=120):
        """The exit statuses, once all named have ended."""
        deadline = time.monotonic() + seconds
        try:
            return {
                name: self.processes[name].wait(max(0.01, deadline - time.monotonic()))
                for name in names or self.processes
            }
        except subprocess.TimeoutExpired:
            pytest.fail(f"the job does not end\n{self.logs()}", pytrace=False)

    def succeed(self):
        assert set(self.wait().values()) == {0}, self.logs()
        assert [self.failure(name) for name in self.names] == [None] * len(self.names)
        assert not any("Traceback" in self.log(name) for name in self.names), self.logs()

    def fail(self, *names, starts="", seconds=120):
        """Waits for hosts to fail, and gives what each has left as the reason."""
        began = time.monotonic()
        codes = self.wait(*names, seconds=seconds)
        assert time.monotonic() - began < seconds
        assert set(codes.values()) == {1}, self.logs()
        failures = [self.failure(name) for name in codes]
        assert all(failure and failure.startswith(starts) for failure in failures), failures
        assert not any("Traceback" in self.log(name) for name in codes), self.logs()
        return failures

    def failure(self, name):
        path = self.bases[name] / "output/failure"
        return path.read_text() if path.exists() else None

    def log(self, name):
        return (self.bases[name] / "log").read_text()

    def logs(self):
        return "\n".join(f"--- {name}, {self.failure(name)}\n{self.log(name)}" for name in self.processes)

    def wait_for_words(self, name, words):
        deadline = time.monotonic() + 60
        while words not in self.log(name):
            if time.monotonic() > deadline or self.processes[name].poll() is not None:
                pytest.fail(f"{name} does not say {words!r}\n{self.logs()}", pytrace=False)
            time.sleep(0.02)

    @contextlib.contextmanager
    def pipe(self, name, channel="train"):
        """The writing end of a host's pipe, once the host reads it."""
        path = self.bases[name] / f"input/data/{channel}_0"
        deadline = time.monotonic() + 60
        while True:
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:  # no reader
                if time.monotonic() > deadline or self.processes[name].poll() is not None:
                    pytest.fail(f"{name} does not read its pipe\n{self.logs()}", pytrace=False)
                time.sleep(0.02)
        os.set_blocking(descriptor, True)
        with os.fdopen(descriptor, "wb", buffering=0) as stream, contextlib.suppress(BrokenPipeError):
            yield stream

    @contextlib.contextmanager
    def reading(self, rows):
        """Has hosts read their pipes, which stay open: all have joined, and are in the middle of their work."""
        with contextlib.ExitStack() as stack:
            streams = {name: stack.enter_context(self.pipe(name)) for name in rows}
            for name, content in rows.items():
                streams[name].write(content)
            for stream in streams.values():
                wait_until_read(stream)
            yield streams

    def listening(self, name):
        """(address, port) of all that a process listens on, by the inodes of its sockets."""
        pid = self.processes[name].pid
        links = [str(it.readlink()) for it in Path(f"/proc/{pid}/fd").iterdir()]
        inodes = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
        found = []
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and fields[9] in inodes:
                    address, port = fields[1].split(":")
                    packed = struct.pack("=I", int(address, 16)) if len(address) == 8 else None
                    found.append((socket.inet_ntoa(packed) if packed else address, int(port, 16)))
        return found


def wait_until_read(stream):
    """Waits until a pipe is empty; what has left it is made rows of, whatever comes."""
    deadline = time.monotonic() + 30
    while struct.unpack("i", fcntl.ioctl(stream, termios.FIONREAD, bytes(4)))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# The port of the host that leads is fixed, and sockets linger: every job of every session has addresses of its own.
_jobs = itertools.count(1)


@pytest.fixture
def hosts(write_job):
    """Lays out a job on several hosts, the first of which leads, given the files of each."""
    with contextlib.ExitStack() as stack:

        def make(files, *, content_type=CSV, distribution=SHARDED, mode="File", channels=None, **hyperparameters):
            network = f"127.{os.getpid() % 250 + 2}.{next(_jobs)}"
            names = [f"{network}.{number}" for number in range(2, 2 + len(files))]
            channels = channels or sorted({path.split("/")[0] for mine in files for path in mine} | {"train"})
            entry = {"ContentType": content_type, "TrainingInputMode": mode}
            entry |= {"S3DistributionType": distribution} if distribution else {}
            bases = {}
            for name, mine in zip(names, files, strict=True):
                base = bases[name] = write_job(mine, **hyperparameters)
                config = base / "input/config"
                (config / "inputdataconfig.json").write_text(json.dumps(dict.fromkeys(channels, entry)))
                resources = {"current_host": name, "hosts": names, "network_interface_name": "eth0"}
                (config / "resourceconfig.json").write_text(json.dumps(resources))
                for channel in channels:
                    (base / "input/data" / channel).mkdir(parents=True, exist_ok=True)
                    if mode == "Pipe":
                        os.mkfifo(base / f"input/data/{channel}_0")
            return stack.enter_context(Hosts(bases))

        yield make


@pytest.fixture(scope="session")
def files(digits, csv, recordio):
    """Four files of the digits, and two of a test channel where it is asked for."""

    def files_(content_type=CSV, *, test=False, uids=False):
        def encode(rows, labels, first=0):
            if content_type == CSV:
                return csv(rows, labels)
            if not uids:
                return recordio.rows(rows, labels)
            # Every third row has no name.
            names = [f"row-{number}" if number % 3 else "" for number in range(first, first + len(rows))]
            return b"".join(
                recordio.frame(
                    recordio.record(recordio.tensor(row), recordio.tensor([label]))
                    + (recordio.field(3, name.encode()) if name else b"")
                )
                for row, label, name in zip(rows, labels, names, strict=True)
            )

        cuts = {"a": (0, 400), "b/c": (400, 700), "b/d": (700, 720), "e": (720, 1000)}
        made = {
            f"train/{name}": encode(digits.train_rows[start:end], digits.train_labels[start:end], start)
            for name, (start, end) in cuts.items()
        }
        if test:
            made["test/x"] = encode(digits.test_rows[:150], digits.test_labels[:150])
            made["test/y"] = encode(digits.test_rows[150:400], digits.test_labels[150:400])
        return made

    return files_


@pytest.fixture
def alone(write_job, train):
    """The folder and the log of the same job on one host."""

    def alone_(files, content_type=CSV, **hyperparameters):
        base = write_job(files, content_type=content_type, **hyperparameters)
        done = train(base, OMP_NUM_THREADS=1)
        assert done.returncode == 0, done.stdout
        return base, done.stdout

    return alone_


def dealt(files, count):
    """Deals files out, one to each host in turn."""
    shares = [{} for _ in range(count)]
    for number, (path, content) in enumerate(sorted(files.items())):
        shares[number % count][path] = content
    return shares


def model_of(base):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (base / "model").iterdir()}


def assert_model_of_one(hosts, one):
    """The leading host has the model of one host, packed too, and no other has any."""
    expected = model_of(one)
    assert set(expected) == {"manifest.json", "index.faiss", "labels.npy", "ids.npy"}
    assert model_of(hosts.bases[hosts.leader]) == expected
    packed = [name for name in hosts.names if (hosts.bases[name] / "output/model.tar.gz").exists()]
    assert packed == [hosts.leader]
    assert not any((hosts.bases[name] / "model").is_dir() and model_of(hosts.bases[name]) for name in hosts.followers)


def manifest(hosts):
    return json.loads((hosts.bases[hosts.leader] / "model/manifest.json").read_text())


@pytest.mark.parametrize("content_type", [CSV, pytest.param(RECORDIO, marks=pytest.mark.slow)])
def test_shards_make_the_model_of_one_host(hosts, alone, files, content_type):
    one, _ = alone(files(content_type), content_type, sample_size=300)
    several = hosts(dealt(files(content_type), 3), content_type=content_type, sample_size=300)
    several.start()
    several.succeed()
    assert_model_of_one(several, one)
    assert manifest(several)["rows_read"] == 1000


def test_the_leading_host_chooses_the_index_of_all_hosts_rows(hosts, files):
    several = hosts(dealt(files(test=True), 2), index_type="auto", target_recall=0.9)
    several.start()
    several.succeed()
    leader, (follower,) = several.bases[several.leader], (several.bases[name] for name in several.followers)
    found = json.loads((leader / "output/data/index.json").read_text())
    (chosen,) = [line for line in found["trials"] if line["chosen"]]
    assert chosen["rows"] == found["rows"] == manifest(several)["rows"] == 1000
    assert chosen["index_type"] == found["index_type"] == manifest(several)["index_type"]
    assert chosen["index_type"] == json.loads((leader / "output/data/evaluation.json").read_text())["index_type"]
    assert chosen["recall"] >= 0.9
    assert "Trial of" in several.log(several.leader)
    assert "Trial of" not in several.log(several.followers[0])
    assert not (follower / "output/data").exists()


# As on SageMaker, and in the SDK's local mode, where nobody says that the hosts see the same files.
@pytest.mark.parametrize("distribution", [None, pytest.param(REPLICATED, marks=pytest.mark.slow)])
def test_files_that_all_hosts_see_are_read_once(hosts, alone, files, distribution):
    one, _ = alone(files(), sample_size=300)
    several = hosts([files()] * 3, distribution=distribution, sample_size=300)
    several.start()
    several.succeed()
    assert_model_of_one(several, one)
    read = [rows_read(several.log(name)) for name in several.names]
    assert sum(read) == 1000
    assert all(rows > 0 for rows in read)


def rows_read(log):
    """How many rows of the train channel a host says that it has read."""
    (line,) = (line for line in log.splitlines() if '"Meta": "training_data_iter"' in line)
    return json.loads(line.removeprefix("#metrics "))["Metrics"]["Total Records Seen"]["sum"]


def test_names_of_rows_travel_with_them(hosts, alone, files):
    one, _ = alone(files(RECORDIO, uids=True), RECORDIO, sample_size=300)
    several = hosts(dealt(files(RECORDIO, uids=True), 2), content_type=RECORDIO, sample_size=300)
    several.start()
    several.succeed()
    assert_model_of_one(several, one)
    ids = np.load(several.bases[several.leader] / "model/ids.npy").tolist()
    numbers = [int(name.removeprefix("row-")) for name in ids]
    assert numbers == sorted(numbers)
    assert [name.startswith("row-") for name in ids] == [number % 3 > 0 for number in numbers]
    assert 0 < sum(number % 3 > 0 for number in numbers) < len(ids) == 300


@pytest.mark.parametrize("without", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_hosts_without_data_and_with_rows_of_which_none_stays_do_no_harm(hosts, alone, csv, digits, without):
    # A row of which the sample of five has none, and most rows on one host.
    every = {
        "train/a": csv(digits.train_rows[:990], digits.train_labels[:990]),
        "train/b": csv(digits.train_rows[990:991], digits.train_labels[990:991]),
    }
    one, _ = alone(every, sample_size=5)
    assert 990 not in np.load(one / "model/ids.npy")
    shares = dealt(every, 2)
    shares.insert(without, {})
    several = hosts(shares, sample_size=5)
    several.start()
    several.succeed()
    assert_model_of_one(several, one)


@pytest.mark.parametrize("predictor", ["classifier", pytest.param("regressor", marks=pytest.mark.slow)])
def test_scores_are_over_the_test_rows_of_all_hosts(hosts, alone, files, predictor):
    one, log = alone(files(test=True), predictor_type=predictor)
    shares = dealt(files(), 3)
    for number, path in ((1, "test/x"), (2, "test/y")):  # the leading host has none
        shares[number][path] = files(test=True)[path]
    several = hosts(shares, predictor_type=predictor)
    several.start()
    several.succeed()
    assert_model_of_one(several, one)
    expected, found = (evaluation(base) for base in (one, several.bases[several.leader]))
    assert found["rows"] == 400
    assert list(found) == list(expected)
    for name in set(expected) - {"seconds", "rows_per_second", "engines"}:
        assert found[name] == near(expected[name]), name
    told = {name: scores(several.log(name)) for name in several.names}
    assert [told[name] for name in several.followers] == [{}, {}]
    assert told[several.leader] == {name: near(value) for name, value in scores(log).items()}
    assert len(told[several.leader]) == (2 if predictor == "classifier" else 1)


def scores(log):
    """The scores of a log by their names, as the tuner reads them."""
    found = re.findall(r"#quality_metric: host=\S+, test (\S+) <(?:score|loss)>=(\S+)", log)
    return {name: float(value) for name, value in found}


def evaluation(base):
    return json.loads((base / "output/data/evaluation.json").read_text())


def near(value):
    """Sums of squares depend in their last bits on who adds what first."""
    if isinstance(value, list):
        return [near(it) for it in value]
    if isinstance(value, dict):
        return {name: near(it) for name, it in value.items()}
    return pytest.approx(value, rel=1e-12) if isinstance(value, float) else value


@pytest.mark.parametrize("missing", [0, 2])
def test_hosts_that_wait_in_vain_name_the_one_that_is_missing(hosts, files, missing):
    several = hosts(dealt(files(), 3))
    lacking = several.names[missing]
    others = [name for name in several.names if name != lacking]
    several.start(*others, SAGEMAKER_STARTUP_TIMEOUT=6)
    failures = several.fail(*others, starts="InternalServerError: Waited 6 seconds (SAGEMAKER_STARTUP_TIMEOUT) for the")
    for name, failure in zip(others, failures, strict=True):
        assert f" for the host {lacking}, which did not join host " in failure
        # Who leads has told the others; without it, each tells for itself.
        assert f"did not join host {name if missing == 0 else several.leader}." in failure
    assert not (several.bases[several.leader] / "model/manifest.json").exists()


def rows(count, first=0):
    return b"".join(b"%d,%d,%d\n" % (number % 7, number, -number) for number in range(first, first + count))


@pytest.fixture
def pipes(hosts):
    """Three hosts that read pipes, one row at a time."""
    return lambda **options: hosts([{}] * 3, mode="Pipe", mini_batch_size=1, **options)


@pytest.mark.parametrize("lost", [1, 0])
def test_a_host_that_is_killed_ends_the_job_on_all_others(pipes, lost):
    several = pipes()
    several.start()
    killed = several.names[lost]
    others = [name for name in several.names if name != killed]
    with several.reading(dict.fromkeys(several.names, rows(50))):
        several.signal(signal.SIGKILL, killed)
        failures = several.fail(*others, starts=f"InternalServerError: The host {killed}", seconds=LOST_SECONDS)
    assert all("was lost: it was ended from outside (out of memory?)" in failure for failure in failures)
    assert several.failure(killed) is None
    assert not (several.bases[several.leader] / "model/manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [1, 0])
def test_a_host_that_hangs_ends_the_job_on_all_others(pipes, lost):
    several = pipes()
    several.start()
    hung = several.names[lost]
    others = [name for name in several.names if name != hung]
    with several.reading(dict.fromkeys(several.names, rows(50))):
        several.signal(signal.SIGSTOP, hung)
        failures = several.fail(*others, starts=f"InternalServerError: The host {hung}", seconds=LOST_SECONDS)
        assert all("hung, or could not be reached for 20 seconds" in failure for failure in failures)
        # Should it come to itself again, it finds that the job is over.
        several.signal(signal.SIGCONT, hung)
        several.fail(hung, starts="InternalServerError: ", seconds=LOST_SECONDS)


def test_a_row_that_cannot_be_read_ends_the_job_with_its_place_on_every_host(pipes):
    several = pipes()
    several.start()
    bad = several.names[1]
    with several.reading(dict.fromkeys(several.names, rows(50))) as streams:
        streams[bad].write(b"1,x,2\n")
        streams[bad].close()  # the others wait for more
        failures = several.fail(seconds=LOST_SECONDS)
    start = f"ClientError: Host {bad}: Channel 'train', file 'train_0', row 51: column 2 is 'x', expected a number"
    assert all(failure.startswith(start) for failure in failures), failures


def test_a_mistake_in_a_file_of_one_host_is_told_by_all(hosts, files):
    shares = dealt(files(), 3)
    lines = shares[2]["train/b/d"].splitlines(keepends=True)
    shares[2]["train/b/d"] = b"".join([*lines[:6], b"3,nan\n", *lines[6:]])
    several = hosts(shares)
    several.start()
    start = f"ClientError: Host {several.names[2]}: Channel 'train', file 'b/d', row 7: "
    assert len(set(several.fail(starts=start))) == 1


def test_rows_of_another_width_are_told_with_their_host(hosts, files):
    shares = [files(), {"train/narrow": rows(10)}]
    several = hosts(shares)
    several.start()
    first, second = several.names
    failures = several.fail(starts="ClientError: Channel 'train': expected rows of one width on all hosts, ")
    assert all(f"features that came: 64 on {first}, 2 on {second}." in failure for failure in failures)


def test_a_signal_to_all_hosts_leaves_a_model_of_the_rows_read(pipes):
    several = pipes(k=1, channels=["train", "test"])
    several.start()
    first, second, third = several.names
    sent = {first: rows(200), second: rows(150, 200) + b"6,1", third: b"6,1"}
    with several.reading(sent):
        several.signal(signal.SIGTERM)
        several.succeed()
    described = manifest(several)
    assert (described["rows"], described["rows_read"], described["stopped_early"]) == (350, 350, True)
    labels = np.load(several.bases[first] / "model/labels.npy")
    assert labels.tolist() == [number % 7 for number in range(350)]
    assert all("Scored" not in several.log(name) for name in several.names)


def test_a_signal_to_one_host_is_known_to_the_one_that_leads(pipes):
    # The platform's signals reach hosts at different times: what is left out then is said in the manifest, too.
    several = pipes(k=1, channels=["train", "test"])
    several.start()
    with several.reading(dict.fromkeys(several.names, rows(50))) as streams:
        several.signal(signal.SIGTERM, several.names[1])
        several.wait_for_words(several.names[1], '"Meta": "training_data_iter"')
        for name in (several.names[0], several.names[2]):
            streams[name].close()
        several.succeed()
    described = manifest(several)
    assert (described["rows_read"], described["stopped_early"]) == (150, True)
    assert all("#quality_metric" not in several.log(name) for name in several.names)


def test_a_signal_before_all_have_joined_ends_the_job(hosts, files):
    several = hosts(dealt(files(), 3))
    waiting = several.names[:2]
    several.start(*waiting)
    several.wait_for_words(waiting[0], "Checkpoint loading")
    several.wait_for_words(waiting[1], f"Waiting for the host {waiting[0]}, which leads")
    several.signal(signal.SIGTERM)
    assert set(several.fail(seconds=30)) == {"ClientError: SIGTERM came before the first row was read."}


def test_a_port_that_is_taken_is_named(hosts, files):
    several = hosts(dealt(files(), 2))
    with socket.create_server((several.leader, PORT)):
        several.start(several.leader)
        (failure,) = several.fail(several.leader, starts="InternalServerError: Dask's scheduler cannot start at ")
    assert f"{several.leader}:{PORT}: " in failure
    assert "Address already in use" in failure


def test_nothing_listens_but_where_the_hosts_know_one_another(pipes):
    several = pipes()
    first, second, third = several.names
    several.start(second)
    several.wait_for_words(second, "Waiting for the host")
    several.start(first, third)
    with several.reading(dict.fromkeys(several.names, rows(50))):
        for name in several.names:
            listening = several.listening(name)
            assert {address for address, _ in listening} == {name}
            assert (PORT in {port for _, port in listening}) == (name == first)
            # A worker, and on the host that leads the scheduler: no pages for people.
            assert len(listening) == (2 if name == first else 1)


def test_one_host_alone_listens_nowhere_and_does_without_dask(write_job, files):
    base = write_job(files(test=True))
    script = """
import sys, socket
def refuse(*_): raise AssertionError("one host alone needs no socket that listens")
socket.socket.listen = refuse
from knn_container import cli
sys.argv = ["train"]
try:
    cli.train()
except SystemExit as exit:
    assert exit.code == 0, exit.code
print("loaded:", sorted(sys.modules.keys() & {"dask", "distributed", "tornado"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"SAGEMAKER_BASE_DIR": str(base)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stdout + done.stderr


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority's certificate, and one that it has signed with its key, as files."""
    folder = tmp_path_factory.mktemp("certificates")
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority", authority_key, "authority", authority_key, authority=True)
    for name, content in (
        ("authority.pem", authority.public_bytes(serialization.Encoding.PEM)),
        ("host.pem", _certificate("host", key, "authority", authority_key).public_bytes(serialization.Encoding.PEM)),
        (
            "host.key",
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        ),
    ):
        (folder / name).write_bytes(content)
    return folder


def _certificate(subject, key, issuer, issuer_key, *, authority=False):
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def test_with_certificates_hosts_talk_tls_and_to_nobody_without_one(pipes, certificates):
    several = pipes(k=1)
    prefix = "DASK_DISTRIBUTED__COMM__TLS__"
    variables = {f"{prefix}CA_FILE": certificates / "authority.pem"}
    for part in ("SCHEDULER", "WORKER", "CLIENT"):
        variables |= {f"{prefix}{part}__CERT": certificates / "host.pem"}
        variables |= {f"{prefix}{part}__KEY": certificates / "host.key"}
    several.start(**variables)
    with several.reading({name: rows(50, 50 * number) for number, name in enumerate(several.names)}) as streams:
        ports = [address for name in several.names for address in several.listening(name)]
        assert len(ports) == 4
        for address in ports:
            assert not greeted(address)
            assert not greeted(address, stranger(certificates))
            assert greeted(address, member(certificates))
        for stream in streams.values():
            stream.close()
        several.succeed()
    assert np.load(several.bases[several.leader] / "model/ids.npy").tolist() == list(range(150))


def test_without_certificates_hosts_talk_to_whoever_comes(pipes):
    # That is why nobody else may be in their network; and it shows that `greeted` can tell.
    several = pipes()
    several.start()
    with several.reading(dict.fromkeys(several.names, rows(50))):
        assert all(greeted(address) for name in several.names for address in several.listening(name))


def stranger(certificates):
    context = ssl.create_default_context(cafile=certificates / "authority.pem")
    context.check_hostname = False
    return context


def member(certificates):
    context = stranger(certificates)
    context.load_cert_chain(certificates / "host.pem", certificates / "host.key")
    return context


def greeted(address, context=None):
    """Whether a part of Dask says something to a client: it introduces itself first."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(address, timeout=10))
        if not context:
            connection.sendall(bytes(64))  # whoever speaks TLS takes this for no greeting
            with contextlib.suppress(ConnectionError):
                return connection.recv(1000)[:1] not in (b"", TLS_ALERT)
            return False
        try:
            return bool(stack.enter_context(context.wrap_socket(connection)).recv(1000))
        except (ssl.SSLError, ConnectionError):
            return False
