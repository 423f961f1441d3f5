import array
import fcntl
import json
import os
import re
import tarfile
import termios
import time

import pytest

pytestmark = [pytest.mark.container, pytest.mark.timeout(1200)]

ACCURACY = re.compile(r"#quality_metric: host=algo-1, test accuracy <score>=(\S+)")


def assert_succeeded(job, code, log, digits):
    assert code == 0, log
    assert float(ACCURACY.search(log)[1]) == pytest.approx(digits.accuracy, abs=0.01)
    assert not (job / "output/failure").exists()
    assert (job / "model/manifest.json").is_file()
    with tarfile.open(job / "output/model.tar.gz") as archive:
        archived = {name.removeprefix("./") for name in archive.getnames()}
    assert {path.name for path in (job / "model").iterdir()} <= archived


def assert_no_model(job):
    assert not (job / "model/manifest.json").exists()
    assert not (job / "output/model.tar.gz").exists()


def test_trains(job, train, digits):
    assert_succeeded(job, *train(job), digits)


def test_trains_without_arguments(job, train, digits):
    assert_succeeded(job, *train(job, command=()), digits)


def test_trains_under_restrictions(job, train, digits, restrictions):
    for folder in ("model", "output"):
        (job / folder).chmod(0o777)
    assert_succeeded(job, *train(job, *restrictions), digits)


def test_trains_with_the_mounts_and_the_terminal_of_local_mode(job, run, digits):
    (job / "output/data").mkdir()
    mounts = ("input", "output", "output/data", "model", "input/data/train", "input/data/test")
    done = run("--tty", *(f"--volume={job}/{it}:/opt/ml/{it}" for it in mounts), command=["train"])
    assert_succeeded(job, done.returncode, done.stdout.replace("\r\n", "\n"), digits)


def test_trains_in_little_memory(job, train, digits):
    assert_succeeded(job, *train(job, "--memory=300m", "--memory-swap=300m"), digits)


def test_reports_a_bad_hyperparameter(make_job, tmp_path, train):
    job = make_job(tmp_path / "ml", k="many")
    code, log = train(job)
    assert code != 0, log
    message = (job / "output/failure").read_text()
    assert re.search(r"\bk\b", message)
    assert "many" in message
    assert_no_model(job)


def test_reports_a_full_disk(job, train):
    code, log = train(job, "--tmpfs=/opt/ml/model:size=64k")
    assert code != 0, log
    assert "no space left on device" in (job / "output/failure").read_text().lower()
    assert_no_model(job)


@pytest.fixture
def stopped(make_job, tmp_path, start):
    """Stops a job in the middle of its data and gives its folder, its exit code and its log."""

    def stop(data):
        job = make_job(tmp_path / "ml", mode="Pipe")
        fifo = job / "input/data/train_0"
        os.mkfifo(fifo)
        # Never closed before the end, so that the job waits for more. Opened for reading as well, it does not
        # wait for a reader here.
        pipe = os.open(fifo, os.O_RDWR)
        try:
            os.write(pipe, data.encode())
            container = start(f"--volume={job}:/opt/ml", command=["train"])
            deadline = time.monotonic() + 60
            while "Final configuration" not in container.logs() or bytes_in(pipe):
                assert container.state()["Running"], container.logs()
                assert time.monotonic() < deadline, container.logs()
                time.sleep(0.1)
            container.stop()
        finally:
            os.close(pipe)
        return job, container.state()["ExitCode"], container.logs()

    return stop


def test_leaves_a_model_of_the_rows_read_when_stopped(stopped, digits):
    rows = digits.train_csv.splitlines(keepends=True)
    job, code, log = stopped("".join(rows[:200]) + rows[200][:20])
    assert code == 0, log
    manifest = json.loads((job / "model/manifest.json").read_text())
    assert manifest["stopped_early"] is True
    assert manifest["rows_read"] == 200
    assert (job / "output/model.tar.gz").is_file()


def test_leaves_no_model_when_stopped_before_the_first_row(stopped, digits):
    job, code, log = stopped("")
    assert code not in (0, 137), log  # 137: it had to be killed
    assert (job / "output/failure").is_file()
    assert_no_model(job)


def bytes_in(pipe):
    """Counts the bytes that nobody has read yet."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]
