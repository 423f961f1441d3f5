"""The command line: the options of each command."""

import argparse
import os
import re
from pathlib import Path

from knn_container.formats import mediatype
from knn_container.hyperparameter_table import TABLE
from knn_sagemaker import metrics
from knn_sagemaker.settings import SPOT_WAIT
from knn_sagemaker.training import TUNABLE
from knn_sagemaker.waiting import KINDS

ROLE_VARIABLE = "KNN_SAGEMAKER_ROLE"
BUCKET_VARIABLE = "KNN_SAGEMAKER_BUCKET"
_CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
PUBLIC = [row for row in TABLE if not row.name.startswith("_")]

Parser = argparse.ArgumentParser


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, {text!r} came")
    return int(text)


def pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, {text!r} came")
    return name, value


def channel_name(text: str) -> str:
    """A channel's name."""
    if not _CHANNEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected letters, digits, '.', '-' and '_', {text!r} came")
    return text


def channel(text: str) -> tuple[str, str | None]:
    """`NAME` or `NAME=URI`."""
    name, equals, uri = text.partition("=")
    if not _CHANNEL.fullmatch(name):
        raise argparse.ArgumentTypeError(f"expected NAME or NAME=s3://BUCKET/PREFIX, {text!r} came")
    return name, uri if equals else None


def add_place(parser: Parser) -> None:
    """Options of every command."""
    group = parser.add_argument_group("where")
    group.add_argument("--name", default="knn", help="begins the names of all that is made (default: knn)")
    group.add_argument("--region", help="default: as the AWS command line's")
    group.add_argument("--profile", help="of the AWS command line's configuration")
    group.add_argument("--account", help="12 digits (default: asked from AWS)")
    group.add_argument(
        "--bucket",
        default=os.environ.get(BUCKET_VARIABLE),
        help=f"default: ${BUCKET_VARIABLE}, or sagemaker-REGION-ACCOUNT, which SageMaker's SDKs use too",
    )
    group.add_argument("--repository", default="knn-container", help="of the image (default: knn-container)")


def add_dry_run(parser: Parser) -> None:
    """For commands that send."""
    parser.add_argument("--dry-run", action="store_true", help="prints the requests as JSON and sends nothing")


def add_waiting(parser: Parser, *, may_leave: bool = True) -> None:
    """For commands that wait."""
    if may_leave:
        parser.add_argument("--no-wait", action="store_true", help="returns once the request is taken")
    parser.add_argument("--poll", type=float, default=10.0, metavar="SECONDS", help="between two looks (default: 10)")


def add_push(parser: Parser) -> None:
    """Options of `push`."""
    parser.add_argument("--image", default="knn-container:cpu", help="of this machine (default: knn-container:cpu)")
    parser.add_argument("--tag", default="latest", help="in the registry (default: latest)")
    parser.add_argument("--registry", metavar="HOST", help="instead of the account's, such as 127.0.0.1:5000")


def add_upload(parser: Parser) -> None:
    """Options of `upload`."""
    parser.add_argument("file", type=Path, metavar="FILE", help=".npy, .csv, .pbr or .recordio; .csv.gz too")
    parser.add_argument(
        "--channel",
        type=channel_name,
        required=True,
        metavar="NAME",
        help="such as train, test, or batch to transform",
    )
    parser.add_argument("--labels", type=Path, metavar="FILE.npy", help="of a .npy (default: its first column)")
    parser.add_argument("--unlabelled", action="store_true", help="the rows have no labels: a batch to transform")
    parser.add_argument("--kms-key", metavar="KEY")


def add_machines(parser: Parser, *, instance_type: str) -> None:
    """Options of whatever runs the image."""
    group = parser.add_argument_group("machines")
    group.add_argument(
        "--role",
        default=os.environ.get(ROLE_VARIABLE),
        metavar="ARN",
        help=f"the execution role (default: ${ROLE_VARIABLE})",
    )
    group.add_argument("--image", metavar="URI", help="default: REPOSITORY:latest of the account's registry")
    group.add_argument("--instance-type", default=instance_type, metavar="TYPE", help=f"default: {instance_type}")
    group.add_argument("--instance-count", type=positive, default=1, metavar="N", help="default: 1")
    group.add_argument("--kms-key", metavar="KEY", help="encrypts results and volumes")
    group.add_argument("--subnet", action="append", default=[], metavar="ID", help="of a VPC; may be repeated")
    group.add_argument("--security-group", action="append", default=[], metavar="ID", help="of a VPC; may be repeated")
    group.add_argument("--network-isolation", action="store_true", help="no network for the container")
    group.add_argument(
        "--env", type=pair, action="append", default=[], metavar="NAME=VALUE", help="of the container; may be repeated"
    )


def add_training(parser: Parser, *, ranges: bool = False) -> None:
    """Options of `train` and, where some hyperparameters may be ranges, of `tune`."""
    add_machines(parser, instance_type="ml.m5.xlarge")
    group = parser.add_argument_group("the job")
    group.add_argument("--job", metavar="NAME", help="default: --name and the time")
    group.add_argument(
        "--channel",
        type=channel,
        action="append",
        default=[],
        metavar="NAME[=URI]",
        help="may be repeated (default: train; without URI, where upload puts it)",
    )
    group.add_argument(
        "--content-type", default=mediatype.RECORDIO, metavar="TYPE", help="of the channels (default: RecordIO)"
    )
    group.add_argument("--input-mode", choices=("File", "FastFile", "Pipe"), default="File", help="default: File")
    group.add_argument(
        "--distribution",
        choices=("FullyReplicated", "ShardedByS3Key"),
        default="FullyReplicated",
        help="whether each instance gets all objects or some (default: FullyReplicated)",
    )
    group.add_argument("--compression", choices=("None", "Gzip"), default="None", help="Gzip is for Pipe mode")
    group.add_argument("--output", metavar="URI", help="where models go")
    group.add_argument("--volume", type=positive, default=30, metavar="GB", help="default: 30")
    group.add_argument("--max-runtime", type=positive, default=3600, metavar="SECONDS", help="default: 3600")
    group.add_argument("--spot", action="store_true", help="takes spare capacity, which is cheaper")
    group.add_argument(
        "--max-wait",
        type=positive,
        metavar="SECONDS",
        help=f"for waiting and running, with --spot (default: {SPOT_WAIT}, or --max-runtime)",
    )
    group.add_argument("--encrypt-traffic", action="store_true", help="between the instances")
    group = parser.add_argument_group("hyperparameters")
    for row in PUBLIC:
        default = "" if row.default in (None, "") else f" (default: {row.default})"
        range_ = " or LOW:HIGH, to tune" if ranges and row.name in TUNABLE else ""
        group.add_argument(
            f"--{row.name.replace('_', '-')}",
            dest=f"hyperparameter_{row.name}",
            metavar="VALUE",
            help=f"{row.help.replace('`', '')} {row.allowed}{range_}{default}".replace("%", "%%"),
        )


def add_tuning(parser: Parser) -> None:
    """Options of `tune`."""
    group = parser.add_argument_group("tuning")
    group.add_argument("--objective", choices=tuple(metrics.OBJECTIVES), help="default: the predictor_type's")
    group.add_argument("--strategy", choices=("Bayesian", "Random"), default="Bayesian", help="default: Bayesian")
    group.add_argument("--jobs", type=positive, default=10, metavar="N", help="training jobs in all (default: 10)")
    group.add_argument("--parallel", type=positive, default=2, metavar="N", help="at a time (default: 2)")
    add_training(parser, ranges=True)


def add_model(parser: Parser) -> None:
    """Options that name a model."""
    parser.add_argument(
        "--training-job", action="append", default=[], metavar="NAME", help="whose model it is, or one of the models"
    )
    parser.add_argument("--model-data", metavar="URI", help="instead: a model.tar.gz, or the prefix of many")


def add_deploy(parser: Parser) -> None:
    """Options of `deploy`."""
    add_model(parser)
    parser.add_argument("--endpoint", metavar="NAME", help="default: NAME-endpoint")
    parser.add_argument("--startup-timeout", type=positive, metavar="SECONDS", help="for a large model; 60 to 3600")
    parser.add_argument("--serverless", action="store_true", help="no instances; memory for as long as a request takes")
    parser.add_argument("--memory", type=positive, default=2048, metavar="MB", help="of --serverless (default: 2048)")
    parser.add_argument("--concurrency", type=positive, metavar="N", help="requests at a time: serverless, async")
    parser.add_argument("--async", dest="asynchronous", action="store_true", help="answers go to S3")
    parser.add_argument("--success-topic", metavar="ARN", help="of SNS, for --async")
    parser.add_argument("--error-topic", metavar="ARN", help="of SNS, for --async")
    parser.add_argument("--multi-model", action="store_true", help="many models, loaded when they are asked for")
    add_machines(parser, instance_type="ml.m5.large")


def add_transform(parser: Parser) -> None:
    """Options of `transform`."""
    add_model(parser)
    parser.add_argument("--model", metavar="NAME", help="instead: a SageMaker model that there is")
    parser.add_argument("--job", metavar="NAME", help="of the transform (default: --name and the time)")
    parser.add_argument("--input", metavar="URI", help="default: where upload puts the channel batch")
    parser.add_argument(
        "--content-type", default=mediatype.RECORDIO, metavar="TYPE", help="of the input (default: RecordIO)"
    )
    parser.add_argument("--accept", default=mediatype.JSONLINES, metavar="TYPE", help="default: JSON lines")
    parser.add_argument("--compression", choices=("None", "Gzip"), default="None", help="of the input")
    parser.add_argument("--strategy", choices=("MultiRecord", "SingleRecord"), default="MultiRecord")
    parser.add_argument("--max-payload", type=positive, default=6, metavar="MB", help="of a request (default: 6)")
    parser.add_argument("--concurrency", type=positive, metavar="N", help="requests at a time")
    parser.add_argument("--input-filter", metavar="JSONPATH")
    parser.add_argument("--output-filter", metavar="JSONPATH")
    parser.add_argument("--join", action="store_true", help="puts the input beside the answers")
    parser.add_argument("--download", type=Path, metavar="FOLDER", help="fetches the answers at the end")
    add_machines(parser, instance_type="ml.m5.large")


def add_invoke(parser: Parser) -> None:
    """Options of `invoke`."""
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help=".csv, .json, .jsonl, .pbr, .npy, or -")
    parser.add_argument("--body", metavar="TEXT", help="instead of a file; CSV, unless --content-type says otherwise")
    parser.add_argument("--endpoint", metavar="NAME", help="default: NAME-endpoint")
    parser.add_argument("--content-type", metavar="TYPE", help="default: the file's, by its suffix")
    parser.add_argument("--accept", default=mediatype.JSON, metavar="TYPE", help="default: application/json")
    parser.add_argument("--verbose", action="store_true", help="neighbours' labels and distances too")
    parser.add_argument("--target-model", metavar="NAME", help="of a multi-model endpoint, such as knn-1.tar.gz")
    parser.add_argument("--attributes", metavar="TEXT", help="options of the request, such as k=3")
    parser.add_argument("--async", dest="asynchronous", action="store_true", help="the endpoint is asynchronous")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="SECONDS", help="of --async (default: 900)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")


def add_delete(parser: Parser) -> None:
    """Options of `delete`."""
    parser.add_argument("--delete-repository", action="store_true", help="the repository and its images too")
    parser.add_argument("--yes", action="store_true", help="does not ask")


def add_one(parser: Parser) -> None:
    """Options of `wait` and `stop`."""
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.add_argument("which", metavar="NAME")


def add_policy(parser: Parser) -> None:
    """Options of `policy`."""
    parser.add_argument(
        "whose", choices=("caller", "role", "trust"), help="yours; the execution role's; who may take that role"
    )
    parser.add_argument("--role", default=os.environ.get(ROLE_VARIABLE), metavar="ARN", help="the execution role")
    parser.add_argument("--kms-key", metavar="ARN", help="that results and volumes are encrypted with")
    parser.add_argument("--topic", action="append", default=[], metavar="ARN", help="of SNS; may be repeated")
    parser.add_argument("--vpc", action="store_true", help="jobs and endpoints run in a VPC")


def add_specification(parser: Parser) -> None:
    """Options of `algorithm-specification`."""
    parser.add_argument("--algorithm-name", metavar="NAME", help="default: --name")
    parser.add_argument("--image", metavar="URI", help="default: REPOSITORY:latest of the account's registry")
