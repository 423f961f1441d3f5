import os
import re
import subprocess
from pathlib import Path

import pytest
from docker_engine import require

ROOT = Path(__file__).parents[2]
EXPECTED_OUTPUT = re.compile(
    r"^Trained    in .* test accuracy <score>=0\.9\d+$"
    r".*^Serving    on http://127\.0\.0\.1:\d+,"
    r".*^   predicted \d  .*^   truth     \d  "
    r".*^    label( +\d){5}$.*^    squared distance( +\d+){5}$"
    r".*^Accuracy   (?P<accuracy>0\.\d{4}), \d+ of 360 right$"
    r".*^One row    [\d.]+ ms, .*^A batch    [\d,]+ rows/second, "
    r".*^Stopped    ",
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture
def quickstart(tmp_path):
    """Runs the quickstart with a folder for temporary files and a process session of its own."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def run(*arguments, **environment):
        process = subprocess.Popen(
            [ROOT / "scripts/quickstart", *arguments],
            env=os.environ | {"TMPDIR": str(temporary)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        output, errors = process.communicate(timeout=1200)
        assert processes_of_session(process.pid) == []
        assert list(temporary.iterdir()) == []
        return process.returncode, output, errors

    return run


def processes_of_session(number):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == number:
            found.append(path.parent.name)
    return found


def test_trains_serves_and_asks(quickstart):
    status, output, errors = quickstart()
    assert status == 0, errors
    assert float(EXPECTED_OUTPUT.search(output)["accuracy"]) > 0.97, output


def test_keeps_the_job_and_says_how_to_serve_it(quickstart, tmp_path):
    kept = tmp_path / "kept"
    status, output, errors = quickstart("--keep", str(kept))
    assert status == 0, errors
    for path in ("input/config/hyperparameters.json", "input/data/train/digits.csv", "model/manifest.json"):
        assert (kept / path).is_file()
    assert f"SAGEMAKER_BASE_DIR={kept} .venv/bin/serve" in output
    assert f"head -1 {kept}/input/data/test/digits.csv | curl " in output
    status, _, errors = quickstart("--keep", str(kept))
    assert status == 2
    assert "exists already" in errors


def test_shows_the_servers_log_where_a_request_fails(quickstart):
    status, _, errors = quickstart(MAX_CONTENT_LENGTH="1000")
    assert status == 1
    assert "413" in errors
    assert "The server's log:" in errors
    assert "Ready: " in errors


def test_cleans_up_when_stopped(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [ROOT / "scripts/quickstart"], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while not process.stdout.readline().startswith("Serving"):
            assert process.poll() is None
        process.terminate()
        process.stdout.read()
    assert process.returncode == 128 + 15
    assert processes_of_session(process.pid) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.container
@pytest.mark.timeout(1800)
def test_does_the_same_in_containers(quickstart, tmp_path):
    require()
    kept = tmp_path / "kept"
    status, output, errors = quickstart("--docker", "--keep", str(kept))
    assert status == 0, errors
    assert float(EXPECTED_OUTPUT.search(output)["accuracy"]) > 0.97, output
    assert "docker run " in output
    left = subprocess.run(
        ["docker", "ps", "--all", "--quiet", f"--filter=volume={kept}"], capture_output=True, text=True, check=True
    )
    assert left.stdout == ""
