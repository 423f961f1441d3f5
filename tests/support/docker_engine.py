"""Docker commands, and the images that the tests build of the working tree."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def docker(*arguments, check=True, timeout=250, **options):
    done = subprocess.run(
        ["docker", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    if check and done.returncode != 0:
        pytest.fail(f"docker {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}", pytrace=False)
    return done


def require(*, compose=False):
    """Skips where no engine answers; fails where the tests of the image must run."""
    if reason := _missing(compose):
        if os.environ.get("KNN_REQUIRE_CONTAINER") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def _missing(compose):
    if shutil.which("docker") is None:
        return "there is no docker command"
    if (engine := docker("info", check=False)).returncode != 0:
        return f"no Docker engine answers: {engine.stderr.strip()}"
    plugin = docker("compose", "version", check=False)
    if compose and shutil.which("docker-compose") is None and plugin.returncode != 0:
        return "there is neither docker-compose nor docker compose"
    if compose and shutil.which("pgrep") is None:
        return "there is no pgrep, with which SageMaker's SDK finds what to end"
    return None


def build(faiss):
    """Builds the image from the working tree; a second build of the same tree takes a second or two."""
    tag = f"knn-container:test-{faiss}"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    arguments = [f"FAISS={faiss}", f"VERSION={version}", "REVISION=test"]
    if "PIP_INDEX_URL" in os.environ:
        arguments.append("PIP_INDEX_URL")
    docker("build", *(f"--build-arg={it}" for it in arguments), f"--tag={tag}", ROOT, timeout=1200)
    return tag
