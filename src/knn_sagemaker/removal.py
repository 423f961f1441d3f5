"""Finds all that this program made under a name, and deletes it.

What it made begins with the name and has its tag; nothing is remembered on this machine, so that another machine, or
one whose program was killed, deletes as well.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from knn_sagemaker import made, storage, waiting
from knn_sagemaker.api import Api
from knn_sagemaker.errors import Failure, Refused
from knn_sagemaker.place import TAG, Place
from knn_sagemaker.requests import Request, Response


@dataclass
class Found:
    """What there is to delete.

    Attributes:
        running: kinds and names, of jobs that run.
        stopping: the same, of jobs that are being stopped.
        resources: kinds and names.
        keys: of objects.
        uploads: keys and numbers of uploads that never ended.
        repository: of the image.
    """

    running: list[tuple[waiting.Kind, str]]
    stopping: list[tuple[waiting.Kind, str]]
    resources: list[tuple[made.Resource, str]]
    keys: list[str]
    uploads: list[tuple[str, str]]
    repository: str | None

    def lines(self, place: Place) -> list[str]:
        """Says what there is, a line each."""
        lines = [f"stop the {kind.noun} {name}" for kind, name in self.running]
        lines += [f"wait for the {kind.noun} {name}" for kind, name in self.stopping]
        lines += [f"delete the {resource.noun} {name}" for resource, name in self.resources]
        if self.keys:
            lines.append(f"delete {len(self.keys):,} objects below {place.uri()}")
        if self.uploads:
            lines.append(f"abort {len(self.uploads):,} unfinished uploads below {place.uri()}")
        if self.repository:
            lines.append(f"delete the repository {self.repository} and all images in it")
        return lines


def find(api: Api, place: Place, *, repository: bool) -> Found:
    """Finds what was made under the place's name.

    Raises:
        Failure: it cannot be listed.
    """
    resources = [
        (resource, name)
        for resource in made.RESOURCES
        for name in _ours(
            api, place, api.items(resource.listing(place), resource.member), resource.field, resource.arn_field
        )
    ]
    found = Found(_jobs(api, place, "InProgress"), _jobs(api, place, "Stopping"), resources, [], [], None)
    try:
        found.keys = [str(item["Key"]) for item in api.items(storage.listing(place, place.prefix), "Contents")]
        begun = api.items(made.uploads(place), "Uploads")
        # A store that does not know the prefix of this call would list everybody's.
        found.uploads = [
            (str(item["Key"]), str(item["UploadId"])) for item in begun if str(item["Key"]).startswith(place.prefix)
        ]
    except Refused as refused:
        if refused.code != "NoSuchBucket":
            raise
    if repository:
        found.repository = _repository(api, place)
    return found


def _jobs(api: Api, place: Place, status: str) -> list[tuple[waiting.Kind, str]]:
    return [
        (running.kind, name)
        for running in made.RUNNING
        for name in _ours(
            api,
            place,
            api.items(running.listing(place, status), running.member),
            running.kind.parameter,
            running.arn_field,
        )
    ]


def _ours(api: Api, place: Place, listed: Iterator[dict[str, str]], field: str, arn_field: str) -> Iterator[str]:
    for summary in listed:
        if summary[field].startswith(f"{place.name}-"):
            tags = api.items(made.tags_of(summary[arn_field]), "Tags")
            if any(tag == {"Key": TAG, "Value": place.name} for tag in tags):
                yield summary[field]


def _repository(api: Api, place: Place) -> str | None:
    try:
        api.send(made.describing_repository(place))
    except Refused as refused:
        if refused.code != "RepositoryNotFoundException":
            raise
        return None
    tags = api.send(made.tags_of_repository(place)).get("tags") or []
    if {"Key": TAG, "Value": place.name} not in tags:
        raise Failure(
            f"The repository {place.repository} was not made under the name {place.name}, or not by this program, so "
            "that it is not deleted: leave --delete-repository out."
        )
    return place.repository


def delete(api: Api, place: Place, found: Found, watch: waiting.Watch, say: Callable[[str], None]) -> None:
    """Deletes what was found; what cannot be deleted does not keep the rest.

    Raises:
        Failure: names what is left.
    """
    left: list[str] = []

    def attempt(what: str, *requests: Request) -> None:
        try:
            for request in requests:
                api.send(request)
            say(what)
        except Failure as failure:
            left.append(f"{what}: {failure}")

    awaited = [*found.stopping]
    for kind, name in found.running:
        try:
            api.send(kind.stopping(name))
            say(f"stop the {kind.noun} {name}")
        except Failure as failure:
            # It has ended by now, or somebody else stops it: a tuning job its training jobs, say.
            if not isinstance(failure, Refused) or failure.code != "ValidationException":
                left.append(f"stop the {kind.noun} {name}: {failure}")
                continue
        awaited.append((kind, name))
    for kind, name in awaited:
        try:  # a job that is being stopped still writes
            watch.until_over(kind, name)
        except Failure as failure:
            left.append(f"wait for the {kind.noun} {name}: {failure}")
    for resource, name in found.resources:
        attempt(f"delete the {resource.noun} {name}", resource.deleting(name))
    for key, upload in found.uploads:
        attempt(f"abort the upload of {key}", made.aborting(place, key, upload))
    for start in range(0, len(found.keys), made.KEYS_AT_A_TIME):
        keys = found.keys[start : start + made.KEYS_AT_A_TIME]
        attempt(f"delete {len(keys):,} objects below {place.uri()}", _checked(made.deleting(place, keys)))
    if found.repository:
        attempt(f"delete the repository {found.repository}", made.deleting_repository(found.repository))
    if left:
        raise Failure("Not all is deleted; try again later:\n" + "\n".join(left))


def _checked(request: Request) -> Request:
    """DeleteObjects answers well even where objects stay."""

    def check(answer: Response) -> None:
        if errors := answer.get("Errors"):
            first = errors[0]
            raise Failure(f"{len(errors)} objects stay, the first is {first.get('Key')}: {first.get('Message')}")

    return Request(request.service, request.operation, request.parameters, request.note, check)
