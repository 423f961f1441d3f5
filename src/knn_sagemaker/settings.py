"""What a training job reads, and what it runs on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from knn_sagemaker.errors import Mistake
from knn_sagemaker.place import Place, split_uri
from knn_sagemaker.requests import without_none

# Seconds. AWS limits spot jobs of its own and of the marketplace's algorithms to this if they keep no checkpoints;
# it does not say so of other images, and this one keeps none.
SPOT_WAIT = 3600


@dataclass(frozen=True)
class Channels:
    """Where the rows are.

    Attributes:
        uris: S3 addresses by channel; None is where `upload` puts that channel.
        content_type: of all of them.
        input_mode: `File`, `FastFile` or `Pipe`.
        distribution: `FullyReplicated`, or `ShardedByS3Key` to give each instance some of the objects.
        compression: `None`, or `Gzip`, which the platform unpacks in Pipe mode.
    """

    uris: Mapping[str, str | None]
    content_type: str
    input_mode: str = "File"
    distribution: str = "FullyReplicated"
    compression: str = "None"

    def at(self, place: Place) -> dict[str, str]:
        """The addresses.

        Raises:
            Mistake: one is none.
        """
        found = {name: uri or place.uri("data", name) + "/" for name, uri in self.uris.items()}
        for name, uri in found.items():
            split_uri(f"--channel {name}", uri)
        return found

    def config(self, place: Place) -> list[dict[str, Any]]:
        """As CreateTrainingJob takes them."""
        return [
            {
                "ChannelName": name,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": uri,
                        "S3DataDistributionType": self.distribution,
                    }
                },
                "ContentType": self.content_type,
                "CompressionType": self.compression,
                "InputMode": self.input_mode,
            }
            for name, uri in self.at(place).items()
        ]


@dataclass(frozen=True)
class Machines:
    """What a job runs on, as whom, and for how long.

    Attributes:
        role: the execution role's ARN.
        image: as SageMaker is told it.
        instance_type, instance_count, volume_gb: the instances.
        max_runtime: seconds, after which the job is stopped.
        spot: takes spare capacity, which is cheaper and may be taken away.
        max_wait: seconds for waiting and running together; for spot.
        output: where models go; None is the place's own.
        kms_key: encrypts models and volumes.
        subnets, security_groups: of a VPC.
        isolated: without network.
        encrypt_traffic: between the instances.
        environment: variables of the container.
    """

    role: str
    image: str
    instance_type: str
    instance_count: int = 1
    volume_gb: int = 30
    max_runtime: int = 3600
    spot: bool = False
    max_wait: int | None = None
    output: str | None = None
    kms_key: str | None = None
    subnets: Sequence[str] = ()
    security_groups: Sequence[str] = ()
    isolated: bool = False
    encrypt_traffic: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_wait is not None and not self.spot:
            raise Mistake("--max-wait: only a job with --spot waits for its instances.")
        if self.spot and self.wait < self.max_runtime:
            raise Mistake(
                f"--max-wait: expected at least --max-runtime, which is {self.max_runtime}; {self.wait} came."
            )
        if bool(self.subnets) != bool(self.security_groups):
            raise Mistake("--subnet and --security-group: give both or neither.")

    @property
    def wait(self) -> int:
        """Seconds that a spot job may take, waiting included."""
        return max(SPOT_WAIT, self.max_runtime) if self.max_wait is None else self.max_wait

    @property
    def vpc(self) -> dict[str, list[str]] | None:
        """As all creating operations take it."""
        if not self.subnets:
            return None
        return {"Subnets": list(self.subnets), "SecurityGroupIds": list(self.security_groups)}

    def definition(self, place: Place) -> dict[str, Any]:
        """What CreateTrainingJob and a tuning job's definition have in common."""
        output = self.output or place.uri("output") + "/"
        split_uri("--output", output)
        return without_none(
            {
                "RoleArn": self.role,
                "OutputDataConfig": without_none({"S3OutputPath": output, "KmsKeyId": self.kms_key}),
                "ResourceConfig": without_none(
                    {
                        "InstanceType": self.instance_type,
                        "InstanceCount": self.instance_count,
                        "VolumeSizeInGB": self.volume_gb,
                        "VolumeKmsKeyId": self.kms_key,
                    }
                ),
                "StoppingCondition": without_none(
                    {
                        "MaxRuntimeInSeconds": self.max_runtime,
                        "MaxWaitTimeInSeconds": self.wait if self.spot else None,
                    }
                ),
                "EnableManagedSpotTraining": self.spot,
                "EnableNetworkIsolation": self.isolated,
                "EnableInterContainerTrafficEncryption": self.encrypt_traffic,
                "VpcConfig": self.vpc,
                "Environment": dict(self.environment) or None,
            }
        )
