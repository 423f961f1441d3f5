"""The push: a real Docker engine, and Debian's registry on loopback behind moto's ECR."""

import os
import shlex
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from docker_engine import docker, require

pytestmark = [pytest.mark.container, pytest.mark.timeout(300)]

# bcrypt of what moto gives for a token, 123456789012-auth-token, for the user that ECR wants.
USERS = "AWS:$2b$05$KnnContainerTestSaltXuT9CKkDeNkAW52hNaQ0eQ5X1.HdEVD7W\n"
CONFIG = """\
version: 0.1
storage:
  filesystem:
    rootdirectory: {folder}/data
http:
  addr: 127.0.0.1:{port}
auth:
  htpasswd:
    realm: ecr
    path: {folder}/users
log:
  level: warn
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def fail_or_skip(reason):
    if os.environ.get("KNN_REQUIRE_CONTAINER") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry that wants ECR's user and moto's token; gives its host."""
    require()
    if shutil.which("docker-registry") is None:
        fail_or_skip("there is no docker-registry: apt-get install docker-registry")
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    (folder / "users").write_text(USERS)
    (folder / "config.yml").write_text(CONFIG.format(folder=folder, port=port))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        wait_until_it_answers(process, f"http://127.0.0.1:{port}/v2/", folder / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def wait_until_it_answers(process, url, log):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            opener.open(url, timeout=5).close()
        except urllib.error.HTTPError as error:  # it asks who one is
            error.close()
            return
        except OSError:
            time.sleep(0.05)


@pytest.fixture(scope="module")
def image(registry, tmp_path_factory):
    """An image of one small file: the registry does not care what is in it."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "content").write_bytes(os.urandom(64))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY content /\n")
    tag = "knn-container:test-push"
    docker("build", f"--tag={tag}", folder)
    yield tag
    docker("rmi", "--force", tag, check=False)


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """Logs in into a configuration of its own."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker"


@pytest.fixture
def clean(registry):
    yield
    names = docker("images", "--format={{.Repository}}:{{.Tag}}").stdout.split()
    for name in [name for name in names if name.startswith(registry)]:
        docker("rmi", "--force", name, check=False)


@pytest.fixture
def push(run, proxy, engine, registry, image, clean):
    def push_(*arguments):
        return run("push", "--image", image, "--registry", registry, *arguments)

    return push_


def test_pushes(push, registry, image, aws, engine):
    done = push()
    assert done.status == 0, done.err
    name = done.json["image"]
    assert name.startswith(f"{registry}/knn-container@sha256:")
    (repository,) = aws("ecr").describe_repositories()["repositories"]
    assert repository["repositoryName"] == "knn-container"
    tags = aws("ecr").list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"]
    assert tags == [{"Key": "knn-container", "Value": "knn"}]
    docker("rmi", "--force", f"{registry}/knn-container:latest", image)
    docker("pull", name)  # by its digest, with the login that the push left
    docker("tag", name, image)


def test_pushes_again_into_the_same_repository(push):
    first = push()
    again = push("--tag", "2")
    assert again.status == 0, again.err
    assert again.json == first.json
    assert "Made the repository" in first.err
    assert "Made the repository" not in again.err


def test_the_token_is_on_no_command_line(push, monkeypatch):
    lines = []
    run = subprocess.run

    def note(arguments, **options):
        lines.append(" ".join(map(str, arguments)))
        return run(arguments, **options)

    monkeypatch.setattr(subprocess, "run", note)
    assert push().status == 0
    assert any(line.startswith("docker login --username AWS --password-stdin 127.0.0.1:") for line in lines)
    assert "auth-token" not in " ".join(lines)


def test_a_dry_run_shows_the_commands_that_a_push_runs(push, monkeypatch):
    lines = []
    run = subprocess.run

    def note(arguments, **options):
        lines.append(list(arguments))
        return run(arguments, **options)

    planned = [shlex.split(step["command"]) for step in push("--dry-run").json if "command" in step]
    monkeypatch.setattr(subprocess, "run", note)
    assert push().status == 0
    assert lines == planned


def test_a_wrong_token_is_said(push, proxy):
    token = "QVdTOndyb25n"  # AWS:wrong
    proxy.say_json("GetAuthorizationToken", {"authorizationData": [{"authorizationToken": token}]})
    done = push()
    assert done.status == 1
    assert "docker login --username AWS --password-stdin" in done.err
    assert "unauthorized" in done.err.lower()
    assert "wrong" not in done.err


def test_an_image_that_is_not_there_is_said(push, proxy):
    done = push("--image", "knn-container:missing")
    assert done.status == 1
    assert "docker image inspect" in done.err
    assert "No such image: knn-container:missing" in done.err
    assert "CreateRepository" not in proxy.seen
