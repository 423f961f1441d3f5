"""The policies: that they allow what is sent and what it needs, and not more."""

import json
import re

import pytest

from knn_sagemaker import iam

ROLE = "arn:aws:iam::123456789012:role/knn"
KEY = "arn:aws:kms:us-west-2:123456789012:key/1234abcd"
PLACE = ("--account", "123456789012", "--region", "us-west-2", "--bucket", "mine")


@pytest.fixture
def policy(run):
    def policy_(*arguments):
        done = run("policy", *arguments, *PLACE)
        assert done.status == 0, done.err
        return done.json

    return policy_


def allowed(policy):
    """Every action with its resources; one is in one statement for each set of resources."""
    found = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        found |= {(action, resource) for action in actions for resource in resources}
    return found


def test_operations_of_the_same_name_are_allowed(policy):
    """SageMaker and ECR name actions as operations; test_dry_run compares the table with what is sent."""
    actions = {action for action, _ in allowed(policy("caller", "--role", ROLE))}
    for call in iam.NEEDS:
        service, _, operation = call.partition(".")
        if service in ("sagemaker", "sagemaker-runtime", "ecr"):
            assert f"{service.removesuffix('-runtime')}:{operation}" in actions, call


def test_nothing_is_allowed_that_no_request_needs(policy):
    named = {f"{call.partition('.')[0].removesuffix('-runtime')}:{call.partition('.')[2]}" for call in iam.NEEDS}
    beside = {action for action, _ in allowed(policy("caller", "--role", ROLE))} - named
    # Of AWS's Service Authorization Reference: tags while creating, the role, S3's own names, the engine's push.
    assert beside == {
        "sagemaker:AddTags",
        "iam:PassRole",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:DeleteObject",
        "ecr:TagResource",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
    }


def test_only_what_has_no_resources_is_allowed_everywhere(policy):
    everywhere = {action for action, resource in allowed(policy("caller", "--role", ROLE)) if resource == "*"}
    assert everywhere == {
        "ecr:GetAuthorizationToken",
        "sagemaker:ListEndpointConfigs",
        "sagemaker:ListEndpoints",
        "sagemaker:ListHyperParameterTuningJobs",
        "sagemaker:ListModels",
        "sagemaker:ListTrainingJobs",
        "sagemaker:ListTransformJobs",
    }


def test_resources_are_those_of_the_name(policy):
    for action, resource in allowed(policy("caller", "--role", ROLE, "--name", "team-1")):
        match action.partition(":")[0]:
            case "sagemaker" if resource != "*":
                assert re.fullmatch(r"arn:aws:sagemaker:us-west-2:123456789012:[a-z-]+/team-1-\*", resource)
            case "s3":
                assert resource in ("arn:aws:s3:::mine", "arn:aws:s3:::mine/knn-container/team-1/*")
            case "iam":
                assert resource == ROLE


def test_the_role_goes_to_sagemaker_alone(policy):
    (statement,) = [it for it in policy("caller", "--role", ROLE)["Statement"] if it["Action"] == ["iam:PassRole"]]
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


@pytest.mark.parametrize("whose", [("caller", "--role", ROLE), ("role",)])
def test_listing_is_limited_to_the_prefix(policy, whose):
    (statement,) = [it for it in policy(*whose)["Statement"] if it["Action"] == ["s3:ListBucket"]]
    assert statement["Condition"] == {"StringLike": {"s3:prefix": "knn-container/knn/*"}}


def test_the_execution_role_reads_and_writes_and_pulls(policy):
    assert allowed(policy("role")) == {
        ("cloudwatch:PutMetricData", "*"),
        ("ecr:GetAuthorizationToken", "*"),
        ("logs:CreateLogGroup", "*"),
        ("logs:CreateLogStream", "*"),
        ("logs:DescribeLogStreams", "*"),
        ("logs:PutLogEvents", "*"),
        ("ecr:BatchCheckLayerAvailability", "arn:aws:ecr:us-west-2:123456789012:repository/knn-container"),
        ("ecr:BatchGetImage", "arn:aws:ecr:us-west-2:123456789012:repository/knn-container"),
        ("ecr:GetDownloadUrlForLayer", "arn:aws:ecr:us-west-2:123456789012:repository/knn-container"),
        ("s3:ListBucket", "arn:aws:s3:::mine"),
        ("s3:GetObject", "arn:aws:s3:::mine/knn-container/knn/*"),
        ("s3:PutObject", "arn:aws:s3:::mine/knn-container/knn/*"),
    }


def test_keys_topics_and_networks_are_added_where_they_are_used(policy):
    topic = "arn:aws:sns:us-west-2:123456789012:told"
    plain = allowed(policy("role"))
    more = allowed(policy("role", "--kms-key", KEY, "--topic", topic, "--vpc")) - plain
    assert {(action, resource) for action, resource in more if not action.startswith("ec2:")} == {
        ("kms:CreateGrant", KEY),
        ("kms:Decrypt", KEY),
        ("kms:DescribeKey", KEY),
        ("kms:GenerateDataKey", KEY),
        ("sns:Publish", topic),
    }
    assert sum(action.startswith("ec2:") for action, _ in more) == 9
    assert ("kms:Decrypt", KEY) in allowed(policy("caller", "--role", ROLE, "--kms-key", KEY))


@pytest.mark.parametrize("whose", [("caller", "--role", ROLE), ("role", "--kms-key", KEY)])
def test_aws_takes_them(policy, aws, whose):
    made = aws("iam").create_policy(PolicyName="knn", PolicyDocument=json.dumps(policy(*whose)))
    assert made["Policy"]["PolicyName"] == "knn"


def test_sagemaker_may_take_the_role(policy, aws):
    aws("iam").create_role(RoleName="knn", AssumeRolePolicyDocument=json.dumps(policy("trust")))
    assert policy("trust")["Statement"] == [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]


def test_a_managed_policy_holds_it(policy):
    # IAM's limit for a managed policy, white space not counted.
    document = policy("caller", "--role", ROLE, "--kms-key", KEY, "--name", "sixteen-letters1")
    assert len(re.sub(r"\s", "", json.dumps(document))) <= 6144
