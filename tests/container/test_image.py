import json
import re
import tomllib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.container, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def inspected(docker, image):
    return json.loads(docker("image", "inspect", image).stdout)[0]


def test_labels(inspected):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = inspected["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == project["name"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert labels["org.opencontainers.image.revision"] == "test"
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"


def test_starts_as_sagemaker_wants(inspected):
    config = inspected["Config"]
    assert config["Entrypoint"] == ["knn-container"]
    assert config["Cmd"] == ["train"]
    assert config["User"] == ""
    assert list(config["ExposedPorts"]) == ["8080/tcp"]


def test_is_small(inspected):
    assert inspected["Size"] < 600e6  # its base has 80e6


def test_programs_are_on_the_path(run):
    done = run("--entrypoint=sh", command=["-c", "which knn-container train serve"])
    folder = "/opt/knn-container/bin"
    assert done.stdout.split() == [f"{folder}/knn-container", f"{folder}/train", f"{folder}/serve"]


def test_ships_no_installer(run):
    assert "No module named pip" in run("--entrypoint=python", command=["-m", "pip"]).stderr


def test_modules_are_compiled_beforehand(run):
    done = run("--entrypoint=python", "--read-only", command=["-v", "-c", "import knn_container.cli, faiss, flask"])
    assert done.returncode == 0, done.stderr
    sources = re.findall(r"^# code object from '?(/.*?)'?$", done.stderr, re.MULTILINE)
    assert any("knn_container" in it for it in sources)
    assert [it for it in sources if not it.endswith(".pyc")] == []


def test_refuses_an_unknown_command(run):
    done = run(command=["fly"])
    assert done.returncode != 0
    assert "train" in done.stderr
    assert "serve" in done.stderr


def test_refuses_to_build_with_an_unknown_faiss(docker, image):
    done = docker("build", "--force-rm", "--build-arg=FAISS=faiss-tpu", ROOT, check=False)
    assert done.returncode != 0
    assert "FAISS must be faiss-gpu or faiss-cpu, not 'faiss-tpu'" in done.stdout + done.stderr
