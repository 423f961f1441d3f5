"""The commands' help, their environment, and a disk that is full."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BIN = Path(sys.executable).parent


def run(*command, **variables):
    return subprocess.run(
        [BIN / command[0], *command[1:]],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", [["train"], ["serve"], ["knn-container"]])
def test_help_names_every_variable_of_the_environment(command):
    done = run(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for variable in (
        "SAGEMAKER_BASE_DIR",
        "TRAINING_JOB_NAME",
        "SAGEMAKER_BIND_TO_PORT",
        "MAX_CONTENT_LENGTH",
        "SAGEMAKER_MODEL_SERVER_WORKERS",
    ):
        assert variable in done.stdout


@pytest.mark.parametrize("command", [["train"], ["serve"], ["knn-container", "train"], ["knn-container", "serve"]])
def test_values_that_cannot_be_used_are_named_and_exit_with_2(command, tmp_path):
    done = run(
        *command,
        SAGEMAKER_BASE_DIR=str(tmp_path),
        MAX_CONTENT_LENGTH="abc",
        SAGEMAKER_BIND_TO_PORT="99999",
        SAGEMAKER_MODEL_SERVER_WORKERS="0",
    )
    assert done.returncode == 2
    assert "MAX_CONTENT_LENGTH: expected a number of bytes, 'abc' came" in done.stderr
    assert "SAGEMAKER_BIND_TO_PORT: expected a port, '99999' came" in done.stderr
    assert "SAGEMAKER_MODEL_SERVER_WORKERS: expected auto or a whole number from 1, '0' came" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--unknown"], ["predict"]])
def test_other_arguments_exit_with_2(arguments):
    done = run("knn-container", *arguments)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_without_an_argument_the_command_trains(write_job):
    base = write_job({"train/rows.csv": b"1,0\n2,1\n3,2\n"})
    assert run("knn-container", SAGEMAKER_BASE_DIR=str(base)).returncode == 0
    assert (base / "model" / "manifest.json").exists()


def test_a_failure_is_logged_and_exits_with_1(write_job):
    base = write_job({"train/rows.csv": b"1,0\nx,1\n"})
    done = run("train", SAGEMAKER_BASE_DIR=str(base))
    assert done.returncode == 1
    failure = (base / "output" / "failure").read_text()
    assert failure.startswith("ClientError: Channel 'train', file 'rows.csv', row 2")
    assert failure in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.fixture
def small_disk():
    """Mounts a file system of so many bytes on a folder."""
    mounted = []

    def mount(folder, size):
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        if os.geteuid() or not shutil.which("mount") or subprocess.run(command, check=False).returncode:
            pytest.skip("only root may mount a small file system, and here even that may not be")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


# The index alone takes 512,000 bytes, the labels and the ids 16,000 each.
@pytest.mark.parametrize("size", ["64k", "500k", "516k"], ids=["index", "end of the index", "labels"])
@pytest.mark.parametrize("index_type", ["faiss.Flat", "faiss.IVFFlat"])
def test_a_full_disk_under_the_model_is_told_and_leaves_no_model(write_job, csv, small_disk, size, index_type):
    rows = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
    base = write_job({"train/rows.csv": csv(rows, np.zeros(2000))}, index_type=index_type)
    small_disk(base / "model", size)
    check_disk_full(base)
    assert list((base / "model").iterdir()) == []


def test_a_full_disk_under_the_packed_model_is_told_and_leaves_no_archive(write_job, csv, small_disk):
    rows = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
    base = write_job({"train/rows.csv": csv(rows, np.zeros(2000))})
    small_disk(base / "output", "64k")
    check_disk_full(base)
    assert [path.name for path in (base / "output").iterdir()] == ["failure"]


def check_disk_full(base):
    done = run("train", SAGEMAKER_BASE_DIR=str(base))
    assert done.returncode == 1, done.stdout
    failure = (base / "output" / "failure").read_text()
    assert failure.startswith("InternalServerError: The disk is full")
    assert "larger volume" in failure
