"""The kinds of things that the commands make, and the requests that find and delete them."""

from dataclasses import dataclass

from knn_sagemaker import storage, waiting
from knn_sagemaker.place import Place
from knn_sagemaker.requests import Request

KEYS_AT_A_TIME = 1000  # of DeleteObjects
_FOUND = "<each one found>"


@dataclass(frozen=True)
class Resource:
    """A kind of resource that is deleted by its name.

    Attributes:
        noun: in sentences.
        arn: its type in an ARN.
        lists, member: the operation that lists it, and the list in its answer.
        field: a summary's name; with `Arn` behind its first part it is the ARN.
        deletes: the operation that deletes it.
    """

    noun: str
    arn: str
    lists: str
    member: str
    field: str
    deletes: str

    @property
    def arn_field(self) -> str:
        """The summary's field for the ARN."""
        return self.field.removesuffix("Name") + "Arn"

    def listing(self, place: Place) -> Request:
        """Lists those whose names have the place's name in them."""
        return Request("sagemaker", self.lists, {"NameContains": f"{place.name}-"})

    def deleting(self, name: str) -> Request:
        """Deletes one."""
        return Request("sagemaker", self.deletes, {self.field: name})


@dataclass(frozen=True)
class Running:
    """A kind of job that costs while it runs; afterwards only its record is left, which costs nothing."""

    kind: waiting.Kind
    lists: str
    member: str

    @property
    def arn_field(self) -> str:
        """The summary's field for the ARN."""
        return self.kind.parameter.removesuffix("Name") + "Arn"

    def listing(self, place: Place, status: str) -> Request:
        """Lists those that run or are being stopped."""
        return Request("sagemaker", self.lists, {"NameContains": f"{place.name}-", "StatusEquals": status})


# In the order in which they go: what is asked first, what it is made of later.
RUNNING = (
    Running(waiting.TUNING, "ListHyperParameterTuningJobs", "HyperParameterTuningJobSummaries"),
    Running(waiting.TRAINING, "ListTrainingJobs", "TrainingJobSummaries"),
    Running(waiting.TRANSFORM, "ListTransformJobs", "TransformJobSummaries"),
)
RESOURCES = (
    Resource("endpoint", "endpoint", "ListEndpoints", "Endpoints", "EndpointName", "DeleteEndpoint"),
    Resource(
        "endpoint configuration",
        "endpoint-config",
        "ListEndpointConfigs",
        "EndpointConfigs",
        "EndpointConfigName",
        "DeleteEndpointConfig",
    ),
    Resource("model", "model", "ListModels", "Models", "ModelName", "DeleteModel"),
)


def tags_of(arn: str) -> Request:
    """Asks for a resource's tags."""
    return Request("sagemaker", "ListTags", {"ResourceArn": arn})


def uploads(place: Place) -> Request:
    """Lists uploads that have begun and not ended."""
    return Request("s3", "ListMultipartUploads", {"Bucket": place.bucket, "Prefix": place.prefix})


def aborting(place: Place, key: str, upload: str) -> Request:
    """Gives up an upload, whose parts cost."""
    return Request("s3", "AbortMultipartUpload", {"Bucket": place.bucket, "Key": key, "UploadId": upload})


def deleting(place: Place, keys: list[str]) -> Request:
    """Deletes up to a thousand objects."""
    objects = [{"Key": key} for key in keys]
    return Request("s3", "DeleteObjects", {"Bucket": place.bucket, "Delete": {"Objects": objects, "Quiet": True}})


def describing_repository(place: Place) -> Request:
    """Asks after the repository."""
    return Request("ecr", "DescribeRepositories", {"repositoryNames": [place.repository]})


def tags_of_repository(place: Place) -> Request:
    """Asks for the repository's tags."""
    arn = place.arn("ecr", f"repository/{place.repository}")
    return Request("ecr", "ListTagsForResource", {"resourceArn": arn})


def deleting_repository(name: str) -> Request:
    """Deletes the repository and its images."""
    return Request("ecr", "DeleteRepository", {"repositoryName": name, "force": True})


def plan(place: Place, *, repository: bool) -> list[Request]:
    """What `find` and `delete` send; what is found is not known before."""
    requests = []
    requests += [running.listing(place, status) for status in ("InProgress", "Stopping") for running in RUNNING]
    requests += [resource.listing(place) for resource in RESOURCES]
    requests.append(_noted(tags_of(place.arn("sagemaker", f"<each type>/{place.name}-<...>")), "for each one found"))
    requests += [storage.listing(place, place.prefix), uploads(place)]
    if repository:
        requests += [describing_repository(place), tags_of_repository(place)]
    after = "for each one found with the tag, once you have said yes"
    for running in RUNNING:
        requests += [_noted(running.kind.stopping(_FOUND), after), running.kind.describing(_FOUND)]
    requests += [_noted(resource.deleting(_FOUND), after) for resource in RESOURCES]
    requests += [
        _noted(aborting(place, _FOUND, _FOUND), "for each one found"),
        _noted(deleting(place, [_FOUND]), f"with up to {KEYS_AT_A_TIME} keys at a time"),
    ]
    if repository:
        requests.append(deleting_repository(place.repository))
    return requests


def _noted(request: Request, note: str) -> Request:
    return Request(request.service, request.operation, request.parameters, note)
