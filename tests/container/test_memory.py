"""Training on more data than the container has memory, and refusing a sample that it has no room for."""

import gzip
import json
import os
import re
import shutil
from contextlib import suppress

import numpy as np
import pytest
from hosts import Hosts

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]

RECORDIO = "application/x-recordio-protobuf"
COLUMNS = 64
LIMIT = 150_000_000
FILES = 10  # of LIMIT bytes each
SAMPLE = 20_000


def options(limit):
    """Of a container with so much memory: one CPU, for threads have memory of their own, and nothing to swap to."""
    return (f"--memory={limit}", f"--memory-swap={limit}", "--cpuset-cpus=0")


@pytest.fixture(scope="module")
def frames(recordio):
    """RecordIO frames of LIMIT bytes: one record many times over, with each row's numbers in the place of its own."""
    values = np.arange(1, COLUMNS + 1, dtype="<f4")
    frame = recordio.rows([values.tolist()], [2])
    count = -(-LIMIT // len(frame))
    table = np.tile(np.frombuffer(frame, np.uint8), (count, 1))
    start = frame.index(values.tobytes())
    rows = np.random.default_rng(0).normal(size=(count, COLUMNS)).astype("<f4")
    table[:, start : start + values.nbytes] = rows.view(np.uint8)
    return table.tobytes()


@pytest.fixture(scope="module")
def rows(frames, recordio):
    return len(frames) // len(recordio.rows([[1.0] * COLUMNS], [2]))


@pytest.fixture(scope="module")
def folder(frames, tmp_path_factory):
    """A folder with FILES files of LIMIT bytes each, which on the disk are one."""
    folder = tmp_path_factory.mktemp("data") / "train"
    folder.mkdir()
    (folder / "0").write_bytes(frames)
    for number in range(1, FILES):
        (folder / str(number)).hardlink_to(folder / "0")
    yield folder
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture
def make(docker, image, tmp_path):
    """One host with little memory, whose train channel is a folder of this machine or a pipe."""

    def make_(folder=None, limit=LIMIT, **hyperparameters):
        hosts = Hosts(image, tmp_path, ["algo-1"], options(limit))
        mode = "Pipe" if folder is None else "File"
        hosts.lay_out({}, {"train": {"ContentType": RECORDIO, "TrainingInputMode": mode}}, **hyperparameters)
        mount(hosts, folder)
        return hosts

    return make_


def mount(hosts, folder):
    for host in hosts:
        host.options += [] if folder is None else [f"--volume={folder}:/opt/ml/input/data/train:ro"]


def assert_trained(hosts, read, kept=SAMPLE):
    manifest = json.loads((hosts.succeed(seconds=300).leader.model / "manifest.json").read_text())
    assert (manifest["rows"], manifest["rows_read"]) == (kept, read)


def assert_refused(hosts):
    hosts.failed(starts="ClientError: ", contains=["memory", "sample_size"], seconds=200)
    failure = hosts.leader.failure
    assert len(re.findall(r"\d[\d,.]*", failure)) >= 2, failure
    assert not hosts.leader.state()["OOMKilled"]


def test_reads_ten_times_its_memory_from_files(make, folder, rows):
    with make(folder, sample_size=SAMPLE) as hosts:
        hosts.start()
        assert_trained(hosts, FILES * rows)


def test_reads_ten_times_its_memory_from_a_pipe(make, frames, rows):
    with make(sample_size=SAMPLE) as hosts:
        hosts.start()
        with hosts.open_pipe("algo-1") as pipe:
            for _ in range(FILES):
                pipe.write(frames)
        assert_trained(hosts, FILES * rows)


@pytest.mark.slow
def test_two_hosts_read_ten_times_the_memory_of_each(docker, image, folder, rows, tmp_path):
    with Hosts(image, tmp_path, ["algo-1", "algo-2"], options(LIMIT)) as hosts:
        # Nobody says how the files are distributed: both hosts have all, and find out that they are the same.
        hosts.lay_out({}, {"train": {"ContentType": RECORDIO, "TrainingInputMode": "File"}}, sample_size=SAMPLE)
        mount(hosts, folder)
        hosts.start()
        assert_trained(hosts, FILES * rows)


def test_refuses_a_sample_of_files_that_is_too_large(make, folder):
    with make(folder, sample_size=10**7) as hosts:
        hosts.start()
        assert_refused(hosts)


def test_refuses_by_the_sizes_of_the_files_and_before_it_reads_them(make, frames, rows, tmp_path):
    files = tmp_path / "sparse"
    files.mkdir()
    for name in "ab":
        (files / name).write_bytes(frames[: 5000 * len(frames) // rows])
    # What follows is a hole of a terabyte: who reads it finds no frame in it and says so.
    os.truncate(files / "b", 1 << 40)
    with make(files, sample_size=10**7) as hosts:
        hosts.start()
        assert_refused(hosts)


def test_refuses_a_sample_of_a_pipe_that_is_too_large_once_it_is(make, frames):
    with make(sample_size=10**7) as hosts:
        hosts.start()
        with hosts.open_pipe("algo-1") as pipe, pytest.raises(BrokenPipeError):
            pipe.write(frames * FILES)
        assert_refused(hosts)


@pytest.mark.slow
def test_refuses_a_sample_that_gzip_has_packed_small(make, recordio, tmp_path):
    files = tmp_path / "packed"
    files.mkdir()
    frame = recordio.rows([[1.5] * COLUMNS], [2])
    with gzip.open(files / "rows.gz", "wb") as stream:
        for _ in range(FILES):
            stream.write(frame * (LIMIT // len(frame)))
    assert (files / "rows.gz").stat().st_size < LIMIT / 10
    with make(files, sample_size=10**7) as hosts:
        hosts.start()
        assert_refused(hosts)


@pytest.mark.slow
@pytest.mark.parametrize("index_type", ["faiss.Flat", "faiss.SQ8"])
@pytest.mark.parametrize("mode", ["File", "Pipe"])
def test_a_sample_that_is_not_refused_fits(make, folder, frames, mode, index_type):
    limit, codes = 2 * LIMIT, {}
    with make(folder, limit, sample_size=10**7, index_type=index_type) as hosts:
        hosts.start()
        assert_refused(hosts)
        most = int(re.search(r"sample_size to about (\d+)", hosts.leader.failure)[1])
        shutil.rmtree(hosts.leader.folder)
    for part in (0.6, 1, 2, 3):
        source = folder if mode == "File" else None
        with make(source, limit, sample_size=int(part * most), index_type=index_type) as hosts:
            hosts.start()
            if mode == "Pipe":
                with hosts.open_pipe("algo-1") as pipe, suppress(BrokenPipeError):
                    pipe.write(frames * FILES)
            codes[part] = hosts.wait(seconds=300)["algo-1"]
            if codes[part] != 0:
                assert_refused(hosts)
            shutil.rmtree(hosts.leader.folder)
    assert codes == {0.6: 0, 1: 0, 2: 1, 3: 1}


def test_takes_any_sample_size_for_few_rows(make, recordio, tmp_path):
    files = tmp_path / "few"
    files.mkdir()
    (files / "rows").write_bytes(recordio.rows(np.arange(640.0).reshape(10, COLUMNS), range(10)))
    with make(files, sample_size=10**15) as hosts:
        hosts.start()
        assert_trained(hosts, 10, 10)
