"""docs/sagemaker.md: its commands, its boto3 example, its links."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from knn_sagemaker import cli
from knn_sagemaker.commands import COMMANDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/sagemaker.md").read_text()
BUCKET = "my-bucket"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def commands():
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("scripts/sagemaker ")]


def test_says_what_the_commands_print():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/generate_readme.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_shows_a_dry_run_of_each_command():
    shown = {shlex.split(line)[1] for line in commands() if "--dry-run" in line}
    assert shown == {command.name for command in COMMANDS if command.plan}


@pytest.mark.parametrize("line", commands())
def test_every_command_line_is_understood(line):
    words = shlex.split(line.partition(">")[0])[1:]
    assert cli.parser().parse_args(words).command == words[0]


def test_every_option_in_the_text_exists(run):
    done = [run(command.name, "--help").out for command in COMMANDS]
    known = set(re.findall(r"--[a-z-]+", " ".join(done)))
    prose = re.sub(r"```.*?```|<!--.*?-->", "", TEXT, flags=re.DOTALL)
    assert set(re.findall(r"(?<!\S)`?(--[a-z][a-z-]+)", prose)) <= known | {"--docker"}


def test_scripts_that_are_named_exist():
    for path in set(re.findall(r"scripts/[\w-]+", TEXT)):
        assert os.access(ROOT / path, os.X_OK), path


def test_the_boto3_example_runs(proxy, aws, tmp_path, monkeypatch, capfd):
    """Against moto, in which a job ends at once and leaves no model."""
    for channel in ("train", "test"):
        (tmp_path / "digits" / channel).mkdir(parents=True)
        (tmp_path / "digits" / channel / "digits.csv").write_text("0,1,2\n")
    aws("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in blocks("python") if "boto3.client" in block]
    names = {}
    exec(compile(code, "docs/sagemaker.md", "exec"), names)
    try:
        assert "body" in capfd.readouterr().out  # what moto answers
        job = aws("sagemaker").describe_training_job(TrainingJobName=names["job"])
        assert job["HyperParameters"] == {"k": "5", "predictor_type": "classifier", "sample_size": "2000"}
        assert [channel["ChannelName"] for channel in job["InputDataConfig"]] == ["train", "test"]
        assert names["model"] == f"s3://{BUCKET}/models/{names['job']}/output/model.tar.gz"
        sagemaker = aws("sagemaker")
        assert sagemaker.list_endpoints()["Endpoints"] == sagemaker.list_models()["Models"] == []
    finally:
        names["s3"].close()
        names["sagemaker"].close()


def test_the_program_starts():
    """scripts/sagemaker makes .venv where it is not that of this tree, which is not this test's to do."""
    wanted = (ROOT / "requirements/dev.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    stamp = ROOT / ".venv/installed"
    if not stamp.is_file() or stamp.read_text().split()[0] != hashlib.sha256(wanted).hexdigest():
        pytest.skip(".venv is not that of this tree: scripts/environment")
    started = time.monotonic()
    done = subprocess.run(
        [ROOT / "scripts/sagemaker", "policy", "trust", "--account", "111122223333", "--region", "us-west-2"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["Statement"][0]["Action"] == "sts:AssumeRole"
    assert time.monotonic() - started < 60
