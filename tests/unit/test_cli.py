import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from knn_container import cli, cpu, settings


@pytest.fixture(autouse=True)
def process_as_before(monkeypatch):
    root, on_term = logging.getLogger(), signal.getsignal(signal.SIGTERM)
    level, handlers = root.level, root.handlers[:]
    monkeypatch.setattr(os, "environ", {"SAGEMAKER_BASE_DIR": "/some/folder"})
    yield
    signal.signal(signal.SIGTERM, on_term)
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def started(monkeypatch):
    """The commands that were started, each with its settings."""
    calls = []
    monkeypatch.setattr("knn_container.training.run.main", lambda read: calls.append(("train", read)) or 3)
    monkeypatch.setattr("knn_container.serving.server.main", lambda read, _prepared: calls.append(("serve", read)) or 4)
    return calls


def exit_status(monkeypatch, program, *arguments):
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(SystemExit) as caught:
        program()
    return caught.value.code


@pytest.mark.parametrize(
    ("program", "arguments", "command", "status"),
    [
        (cli.main, [], "train", 3),
        (cli.main, ["train"], "train", 3),
        (cli.main, ["serve"], "serve", 4),
        (cli.train, [], "train", 3),
        (cli.serve, [], "serve", 4),
    ],
)
def test_each_program_starts_its_command_and_ends_with_its_status(
    *, monkeypatch, started, program, arguments, command, status
):
    assert exit_status(monkeypatch, program, *arguments) == status
    assert started == [(command, settings.read({"SAGEMAKER_BASE_DIR": "/some/folder"}))]
    assert started[0][1].base == Path("/some/folder")


@pytest.mark.parametrize(
    ("program", "arguments"), [(cli.main, ["predict"]), (cli.main, ["train", "x"]), (cli.train, ["x"])]
)
def test_arguments_that_mean_nothing_are_refused(monkeypatch, capsys, started, program, arguments):
    assert exit_status(monkeypatch, program, *arguments) == 2
    assert started == []
    assert "usage:" in capsys.readouterr().err


def test_a_setting_that_cannot_be_used_is_refused_with_its_name(monkeypatch, capsys, started):
    os.environ["SAGEMAKER_BIND_TO_PORT"] = "http"
    assert exit_status(monkeypatch, cli.serve) == 2
    assert started == []
    assert "SAGEMAKER_BIND_TO_PORT" in capsys.readouterr().err


@pytest.mark.parametrize("program", [cli.main, cli.train, cli.serve])
def test_help_lists_every_setting_with_its_default(monkeypatch, capsys, program):
    assert exit_status(monkeypatch, program, "--help") == 0
    text = capsys.readouterr().out
    for row in settings.TABLE:
        assert f"{row.variable} " in text
        assert row.help in text
        assert row.default in text


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(("given", "used"), [({}, "5"), ({"OMP_NUM_THREADS": "2"}, "2")])
def test_openmp_gets_the_cpu_budget_unless_the_environment_sets_its_threads(monkeypatch, given, used):
    monkeypatch.setattr(cpu, "budget", lambda: 5)
    os.environ.update(given)
    exit_status(monkeypatch, cli.train)
    assert os.environ["OMP_NUM_THREADS"] == used


def test_importing_the_commands_does_not_import_faiss():
    # OpenMP reads OMP_NUM_THREADS as faiss is imported, which is set later.
    code = "import sys, knn_container.cli; sys.exit('faiss' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
