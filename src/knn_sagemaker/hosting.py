"""Plans models and endpoints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from knn_sagemaker.errors import Mistake
from knn_sagemaker.place import Place, split_uri
from knn_sagemaker.requests import Request, Step, without_none
from knn_sagemaker.waiting import ENDPOINT

VARIANT = "all"
MEMORY_MB = (1024, 2048, 3072, 4096, 5120, 6144)


@dataclass(frozen=True)
class Model:
    """What is served.

    Attributes:
        name: of the SageMaker model that is made.
        role, image, isolated, environment: as a training job's.
        data: the `model.tar.gz`, or the prefix of many.
        vpc: as `Machines.vpc`.
    """

    name: str
    role: str
    image: str
    data: str
    vpc: Mapping[str, list[str]] | None = None
    isolated: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def creating(self, place: Place, *, many: bool = False) -> Request:
        """Makes it."""
        split_uri("--model-data", self.data)
        return Request(
            "sagemaker",
            "CreateModel",
            without_none(
                {
                    "ModelName": place.named("model", self.name),
                    "PrimaryContainer": without_none(
                        {
                            "Image": self.image,
                            "Mode": "MultiModel" if many else "SingleModel",
                            "ModelDataUrl": self.data,
                            "Environment": dict(self.environment) or None,
                        }
                    ),
                    "ExecutionRoleArn": self.role,
                    "VpcConfig": self.vpc,
                    "EnableNetworkIsolation": self.isolated,
                    "Tags": place.tags,
                }
            ),
        )


@dataclass(frozen=True)
class Instances:
    """Instances that run all the time.

    Attributes:
        instance_type, instance_count: which and how many.
        startup_seconds: for loading a large model; None leaves SageMaker's.
    """

    instance_type: str
    instance_count: int = 1
    startup_seconds: int | None = None

    def variant(self) -> dict[str, Any]:
        """Their part of an endpoint's variant."""
        return without_none(
            {
                "InstanceType": self.instance_type,
                "InitialInstanceCount": self.instance_count,
                "InitialVariantWeight": 1.0,
                "ModelDataDownloadTimeoutInSeconds": self.startup_seconds,
                "ContainerStartupHealthCheckTimeoutInSeconds": self.startup_seconds,
            }
        )


@dataclass(frozen=True)
class Serverless:
    """Memory for as long as a request takes."""

    memory_mb: int = 2048
    concurrency: int = 5

    def variant(self) -> dict[str, Any]:
        """Its part of an endpoint's variant."""
        if self.memory_mb not in MEMORY_MB:
            raise Mistake(f"--memory: expected one of {', '.join(map(str, MEMORY_MB))}; {self.memory_mb} came.")
        return {
            "InitialVariantWeight": 1.0,
            "ServerlessConfig": {"MemorySizeInMB": self.memory_mb, "MaxConcurrency": self.concurrency},
        }


@dataclass(frozen=True)
class Queue:
    """Requests that wait their turn, and answers in S3.

    Attributes:
        concurrency: requests that an instance has at a time; None leaves it to SageMaker.
        success_topic, error_topic: SNS topics that are told.
    """

    concurrency: int | None = None
    success_topic: str | None = None
    error_topic: str | None = None

    def config(self, place: Place) -> dict[str, Any]:
        """As CreateEndpointConfig takes it."""
        topics = without_none({"SuccessTopic": self.success_topic, "ErrorTopic": self.error_topic})
        client = without_none({"MaxConcurrentInvocationsPerInstance": self.concurrency})
        output = {"S3OutputPath": place.uri("async", "output"), "S3FailurePath": place.uri("async", "failure")}
        if topics:
            return {"OutputConfig": output | {"NotificationConfig": topics}} | (
                {"ClientConfig": client} if client else {}
            )
        return {"OutputConfig": output} | ({"ClientConfig": client} if client else {})


def deploy(
    place: Place,
    endpoint: str,
    model: Model,
    variant: Instances | Serverless,
    *,
    queue: Queue | None = None,
    many: Mapping[str, str] | None = None,
    kms_key: str | None = None,
    wait: bool,
) -> list[Step]:
    """Plans an endpoint.

    Args:
        place: where.
        endpoint: its name; its configuration is named as the model is.
        model: what it serves.
        variant: what it runs on.
        queue: makes it asynchronous.
        many: makes it a multi-model endpoint, whose models are copied from these addresses to these names.
        kms_key: encrypts the instances' volumes.
        wait: until it is in service.

    Raises:
        Mistake: it would be refused.
    """
    if isinstance(variant, Serverless):
        _check_serverless(model, queue, many, kms_key)
    production = {"VariantName": VARIANT, "ModelName": model.name, **variant.variant()}
    config = Request(
        "sagemaker",
        "CreateEndpointConfig",
        without_none(
            {
                "EndpointConfigName": model.name,
                "ProductionVariants": [production],
                "AsyncInferenceConfig": queue.config(place) if queue else None,
                "KmsKeyId": kms_key,
                "Tags": place.tags,
            }
        ),
    )
    create = Request(
        "sagemaker",
        "CreateEndpoint",
        {
            "EndpointName": place.named("--endpoint", endpoint),
            "EndpointConfigName": model.name,
            "Tags": place.tags,
        },
    )
    copies = [copying(place, uri, name) for name, uri in (many or {}).items()]
    watch = [ENDPOINT.describing(endpoint)] if wait else []
    return [*copies, model.creating(place, many=many is not None), config, create, *watch]


def _check_serverless(model: Model, queue: Queue | None, many: Mapping[str, str] | None, kms_key: str | None) -> None:
    wrong = {
        "--async": queue,
        "--multi-model": many is not None,
        "--subnet": model.vpc,
        "--network-isolation": model.isolated,
        "--kms-key": kms_key,
    }
    if names := [name for name, is_set in wrong.items() if is_set]:
        raise Mistake(f"--serverless: SageMaker has no serverless endpoints with {', '.join(names)}.")


def copying(place: Place, uri: str, name: str) -> Request:
    """Copies a model to where a multi-model endpoint looks for it."""
    bucket, key = split_uri("--model-data", uri)
    copy = {"CopySource": f"{bucket}/{key}", "Bucket": place.bucket, "Key": place.key("models", name)}
    return Request("s3", "CopyObject", copy)
