"""Pushes the image to the account's registry."""

import base64
import shutil
import subprocess
from collections.abc import Sequence

from knn_sagemaker.api import Api
from knn_sagemaker.errors import Failure, Refused
from knn_sagemaker.place import TAG, Place
from knn_sagemaker.requests import Command, Request, Step
from knn_sagemaker.waiting import say

_SECRET = "with the token of the answer on its standard input"  # noqa: S105 (a remark, no secret)


def push(place: Place, image: str, target: str) -> list[Step]:
    """Plans a push.

    Args:
        place: whose registry.
        image: as the Docker engine knows it.
        target: its name in the registry, `HOST/REPOSITORY:TAG`.
    """
    names = {"repositoryNames": [place.repository]}
    tags = [{"Key": TAG, "Value": place.name}]
    return [
        Command(inspecting(image)),
        Request("ecr", "DescribeRepositories", names),
        Request(
            "ecr",
            "CreateRepository",
            {"repositoryName": place.repository, "tags": tags},
            "only where the repository does not exist",
        ),
        Request("ecr", "GetAuthorizationToken", {}),
        Command(logging_in(target.partition("/")[0]), _SECRET),
        Command(("docker", "tag", image, target)),
        Command(("docker", "push", "--quiet", target)),
        Command(digesting(target)),
    ]


def inspecting(image: str) -> tuple[str, ...]:
    """Asks whether the image is there, and for which machines."""
    return ("docker", "image", "inspect", "--format={{.Os}}/{{.Architecture}}", image)


def logging_in(host: str) -> tuple[str, ...]:
    """Logs in to a registry."""
    return ("docker", "login", "--username", "AWS", "--password-stdin", host)


def digesting(target: str) -> tuple[str, ...]:
    """Asks by what digests registries know the image."""
    return ("docker", "image", "inspect", "--format={{range .RepoDigests}}{{println .}}{{end}}", target)


def send_push(api: Api, place: Place, image: str, target: str) -> str:
    """Pushes, and gives the image's name with its digest, under which it never changes.

    Raises:
        Failure: the image is not there, or a step went wrong.
    """
    platform = docker(inspecting(image)).strip()
    if platform != "linux/amd64":
        say(f"Warning: {image} is for {platform}; SageMaker trains on linux/amd64: docker build --platform linux/amd64")
    plan = {step.operation: step for step in push(place, image, target) if isinstance(step, Request)}
    try:
        api.send(plan["DescribeRepositories"])
    except Refused as refused:
        if refused.code != "RepositoryNotFoundException":
            raise
        api.send(plan["CreateRepository"])
        say(f"Made the repository {place.repository}")
    answer = api.send(plan["GetAuthorizationToken"])
    token = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode().partition(":")[2]
    host, _, rest = target.partition("/")
    docker(logging_in(host), token)
    docker(("docker", "tag", image, target))
    say(f"Pushing {target}")
    docker(("docker", "push", "--quiet", target))
    named = f"{host}/{rest.rpartition(':')[0]}@"
    found = [line for line in docker(digesting(target)).splitlines() if line.startswith(named)]
    if not found:
        raise Failure(f"docker push {target} came to its end, but the engine knows no digest of it.")
    return found[0]


def docker(arguments: Sequence[str], entered: str | None = None) -> str:
    """Runs Docker's command and gives what it printed.

    Raises:
        Failure: there is no such command, or it failed.
    """
    if shutil.which(arguments[0]) is None:
        raise Failure("There is no docker command: pushing needs a Docker engine on this machine.")
    done = subprocess.run(arguments, input=entered, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise Failure(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
