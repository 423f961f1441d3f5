"""IAM policies that allow what the commands do and no more, made of one table of what each request needs.

What an operation needs is AWS's own description: the Service Authorization Reference for SageMaker, S3 and ECR, and
"SageMaker Roles" in the developer guide for the execution role.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from knn_sagemaker.place import Place

_TYPES = (
    "training-job",
    "hyper-parameter-tuning-job",
    "transform-job",
    "model",
    "endpoint-config",
    "endpoint",
)
EVERYTHING, BUCKET, OBJECTS, REPOSITORY, ROLE, KEY = "everything", "bucket", "objects", "repository", "role", "key"


@dataclass(frozen=True)
class Need:
    """A permission: an action, on resources of some type."""

    action: str
    resource: str


def _on(resource: str, *actions: str) -> tuple[Need, ...]:
    return tuple(Need(action, resource) for action in actions)


def _create(resource: str, operation: str, *, passes_role: bool = True) -> tuple[Need, ...]:
    """Making something with tags."""
    role = _on(ROLE, "iam:PassRole") if passes_role else ()
    return (*_on(resource, f"sagemaker:{operation}", "sagemaker:AddTags"), *role)


# By the name of a request's call: all that the commands send is here, and only that (a test compares).
NEEDS: dict[str, tuple[Need, ...]] = {
    "sts.GetCallerIdentity": (),  # everybody may
    "sagemaker.CreateTrainingJob": _create("training-job", "CreateTrainingJob"),
    "sagemaker.DescribeTrainingJob": _on("training-job", "sagemaker:DescribeTrainingJob"),
    "sagemaker.StopTrainingJob": _on("training-job", "sagemaker:StopTrainingJob"),
    "sagemaker.ListTrainingJobs": _on(EVERYTHING, "sagemaker:ListTrainingJobs"),
    "sagemaker.CreateHyperParameterTuningJob": _create("hyper-parameter-tuning-job", "CreateHyperParameterTuningJob"),
    "sagemaker.DescribeHyperParameterTuningJob": _on(
        "hyper-parameter-tuning-job", "sagemaker:DescribeHyperParameterTuningJob"
    ),
    "sagemaker.StopHyperParameterTuningJob": _on("hyper-parameter-tuning-job", "sagemaker:StopHyperParameterTuningJob"),
    "sagemaker.ListHyperParameterTuningJobs": _on(EVERYTHING, "sagemaker:ListHyperParameterTuningJobs"),
    "sagemaker.CreateTransformJob": _create("transform-job", "CreateTransformJob", passes_role=False),
    "sagemaker.DescribeTransformJob": _on("transform-job", "sagemaker:DescribeTransformJob"),
    "sagemaker.StopTransformJob": _on("transform-job", "sagemaker:StopTransformJob"),
    "sagemaker.ListTransformJobs": _on(EVERYTHING, "sagemaker:ListTransformJobs"),
    "sagemaker.CreateModel": _create("model", "CreateModel"),
    "sagemaker.ListModels": _on(EVERYTHING, "sagemaker:ListModels"),
    "sagemaker.DeleteModel": _on("model", "sagemaker:DeleteModel"),
    "sagemaker.CreateEndpointConfig": _create("endpoint-config", "CreateEndpointConfig", passes_role=False),
    "sagemaker.ListEndpointConfigs": _on(EVERYTHING, "sagemaker:ListEndpointConfigs"),
    "sagemaker.DeleteEndpointConfig": _on("endpoint-config", "sagemaker:DeleteEndpointConfig"),
    "sagemaker.CreateEndpoint": (
        *_create("endpoint", "CreateEndpoint", passes_role=False),
        *_on("endpoint-config", "sagemaker:CreateEndpoint"),
    ),
    "sagemaker.DescribeEndpoint": _on("endpoint", "sagemaker:DescribeEndpoint"),
    "sagemaker.ListEndpoints": _on(EVERYTHING, "sagemaker:ListEndpoints"),
    "sagemaker.DeleteEndpoint": _on("endpoint", "sagemaker:DeleteEndpoint"),
    "sagemaker.ListTags": tuple(need for kind in _TYPES for need in _on(kind, "sagemaker:ListTags")),
    "sagemaker-runtime.InvokeEndpoint": _on("endpoint", "sagemaker:InvokeEndpoint"),
    "sagemaker-runtime.InvokeEndpointAsync": _on("endpoint", "sagemaker:InvokeEndpointAsync"),
    "s3.ListObjectsV2": _on(BUCKET, "s3:ListBucket"),
    "s3.HeadObject": _on(OBJECTS, "s3:GetObject"),
    "s3.GetObject": _on(OBJECTS, "s3:GetObject"),
    "s3.CopyObject": _on(OBJECTS, "s3:GetObject", "s3:PutObject"),
    "s3.PutObject": _on(OBJECTS, "s3:PutObject"),
    "s3.CreateMultipartUpload": _on(OBJECTS, "s3:PutObject"),
    "s3.UploadPart": _on(OBJECTS, "s3:PutObject"),
    "s3.CompleteMultipartUpload": _on(OBJECTS, "s3:PutObject"),
    "s3.AbortMultipartUpload": _on(OBJECTS, "s3:AbortMultipartUpload"),
    "s3.ListMultipartUploads": _on(BUCKET, "s3:ListBucketMultipartUploads"),
    "s3.DeleteObjects": _on(OBJECTS, "s3:DeleteObject"),
    "ecr.GetAuthorizationToken": _on(EVERYTHING, "ecr:GetAuthorizationToken"),
    "ecr.DescribeRepositories": _on(REPOSITORY, "ecr:DescribeRepositories"),
    "ecr.CreateRepository": _on(REPOSITORY, "ecr:CreateRepository", "ecr:TagResource"),
    "ecr.ListTagsForResource": _on(REPOSITORY, "ecr:ListTagsForResource"),
    "ecr.DeleteRepository": _on(REPOSITORY, "ecr:DeleteRepository"),
    # What the Docker engine asks of the registry.
    "docker push": _on(
        REPOSITORY,
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
    ),
}
_KEY_ACTIONS = ("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey")
_NETWORK_ACTIONS = (
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
)
_ROLE_NEEDS = (
    *_on(
        EVERYTHING,
        "cloudwatch:PutMetricData",
        "ecr:GetAuthorizationToken",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
    ),
    *_on(REPOSITORY, "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
    *_on(BUCKET, "s3:ListBucket"),
    *_on(OBJECTS, "s3:GetObject", "s3:PutObject"),
)


def caller(place: Place, role: str, kms_key: str | None = None) -> dict[str, Any]:
    """The policy of whoever runs the commands.

    Args:
        place: whose resources.
        role: the execution role that may be handed to SageMaker.
        kms_key: a key that objects are encrypted with.
    """
    needs = [need for wanted in NEEDS.values() for need in wanted]
    return _policy(place, [*needs, *(_on(KEY, *_KEY_ACTIONS) if kms_key else ())], role, kms_key)


def execution_role(
    place: Place, kms_key: str | None = None, topics: Iterable[str] = (), *, vpc: bool = False
) -> dict[str, Any]:
    """The policy of the role that jobs and endpoints run as.

    Args:
        place: whose resources.
        kms_key: a key that objects and volumes are encrypted with.
        topics: SNS topics that an asynchronous endpoint tells.
        vpc: whether they run in a VPC.
    """
    needs = [*_ROLE_NEEDS]
    if vpc:
        needs += _on(EVERYTHING, *_NETWORK_ACTIONS)
    policy = _policy(place, [*needs, *(_on(KEY, *_KEY_ACTIONS) if kms_key else ())], "", kms_key)
    if told := list(topics):
        policy["Statement"].append({"Sid": "Topics", "Effect": "Allow", "Action": "sns:Publish", "Resource": told})
    return policy


def trust() -> dict[str, Any]:
    """The trust policy of the execution role: SageMaker may take it."""
    principal = {"Service": "sagemaker.amazonaws.com"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _policy(place: Place, needs: Iterable[Need], role: str, kms_key: str | None) -> dict[str, Any]:
    """One statement for each set of resources."""
    by_resource: dict[str, set[str]] = {}
    for need in needs:
        by_resource.setdefault(need.resource, set()).add(need.action)
    statements = []
    for resource, actions in by_resource.items():
        if resource == BUCKET:
            statements += _bucket(place, actions)
            continue
        statement: dict[str, Any] = {
            "Sid": "".join(part.capitalize() for part in resource.split("-")),
            "Effect": "Allow",
            "Action": sorted(actions),
            "Resource": _arn(place, resource, role, kms_key),
        }
        if resource == ROLE:
            statement["Condition"] = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


def _bucket(place: Place, actions: set[str]) -> list[dict[str, Any]]:
    """Listing objects is limited to the prefix; for unfinished uploads S3 knows no such condition."""
    resource = f"arn:{place.partition}:s3:::{place.bucket}"
    limited = {"StringLike": {"s3:prefix": f"{place.prefix}*"}}
    statements = []
    for action in sorted(actions):
        statement: dict[str, Any] = {
            "Sid": action.removeprefix("s3:"),
            "Effect": "Allow",
            "Action": [action],
            "Resource": resource,
        }
        if action == "s3:ListBucket":
            statement["Condition"] = limited
        statements.append(statement)
    return statements


def _arn(place: Place, resource: str, role: str, kms_key: str | None) -> str:
    if resource in _TYPES:
        return place.arn("sagemaker", f"{resource}/{place.name}-*")
    return {
        EVERYTHING: "*",
        OBJECTS: f"arn:{place.partition}:s3:::{place.bucket}/{place.prefix}*",
        REPOSITORY: place.arn("ecr", f"repository/{place.repository}"),
        ROLE: role,
        KEY: kms_key or "",
    }[resource]
