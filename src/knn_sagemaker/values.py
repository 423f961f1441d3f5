"""What the options of a command line say, as the values that plans are made of."""

import argparse
import re
from collections.abc import Mapping

from knn_sagemaker import metrics
from knn_sagemaker.batch import Batch
from knn_sagemaker.errors import Mistake
from knn_sagemaker.hosting import Instances, Model, Queue, Serverless
from knn_sagemaker.options import PUBLIC, ROLE_VARIABLE
from knn_sagemaker.place import Place
from knn_sagemaker.settings import Channels, Machines
from knn_sagemaker.training import TUNABLE, Search

_RANGE = re.compile(r"(\d+):(\d+)")
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")


def role(options: argparse.Namespace) -> str:
    """The execution role.

    Raises:
        Mistake: there is none.
    """
    given = str(options.role or "")
    if not _ROLE_ARN.fullmatch(given):
        raise Mistake(
            f"--role: expected the ARN of an execution role (or ${ROLE_VARIABLE}), such as "
            f"arn:aws:iam::111122223333:role/knn; {given or 'nothing'!r} came."
        )
    return given


def image(options: argparse.Namespace, place: Place) -> str:
    """The image as SageMaker is told it."""
    return str(options.image or place.image("latest"))


def machines(options: argparse.Namespace, place: Place) -> Machines:
    """What a training job runs on."""
    return Machines(
        role=role(options),
        image=image(options, place),
        instance_type=options.instance_type,
        instance_count=options.instance_count,
        volume_gb=options.volume,
        max_runtime=options.max_runtime,
        spot=options.spot,
        max_wait=options.max_wait,
        output=options.output,
        kms_key=options.kms_key,
        subnets=options.subnet,
        security_groups=options.security_group,
        isolated=options.network_isolation,
        encrypt_traffic=options.encrypt_traffic,
        environment=dict(options.env),
    )


def channels(options: argparse.Namespace) -> Channels:
    """The data of a training job."""
    return Channels(
        dict(options.channel or [("train", None)]),
        options.content_type,
        options.input_mode,
        options.distribution,
        options.compression,
    )


def given(options: argparse.Namespace) -> dict[str, str]:
    """The hyperparameters that were given, as text."""
    texts = {row.name: getattr(options, f"hyperparameter_{row.name}") for row in PUBLIC}
    return {name: str(text) for name, text in texts.items() if text is not None}


def search(options: argparse.Namespace) -> tuple[dict[str, str], Search]:
    """The hyperparameters of a tuning job that stay, and those that vary."""
    fixed, ranges = given(options), {}
    for name in TUNABLE:
        if found := _RANGE.fullmatch(fixed.get(name, "")):
            ranges[name] = (int(found[1]), int(found[2]))
            del fixed[name]
    fitting = (name for name, it in metrics.OBJECTIVES.items() if it.predictor_type == fixed.get("predictor_type"))
    objective = options.objective or next(fitting, next(iter(metrics.OBJECTIVES)))
    return fixed, Search(ranges, objective, options.strategy, options.jobs, options.parallel)


def model(options: argparse.Namespace, place: Place, name: str) -> Model:
    """The model that an endpoint or a transform serves.

    Raises:
        Mistake: it is not clear which.
    """
    many = getattr(options, "multi_model", False)
    jobs = options.training_job
    if bool(jobs) == bool(options.model_data):
        raise Mistake("Say which model: either --training-job NAME or --model-data URI.")
    if len(jobs) > 1 and not many:
        raise Mistake(f"--training-job: expected one, {len(jobs)} came; several need --multi-model.")
    data = options.model_data or (place.uri("models") + "/" if many else model_data(place, jobs[0]))
    vpc = None
    if options.subnet or options.security_group:
        if not (options.subnet and options.security_group):
            raise Mistake("--subnet and --security-group: give both or neither.")
        vpc = {"Subnets": options.subnet, "SecurityGroupIds": options.security_group}
    return Model(name, role(options), image(options, place), data, vpc, options.network_isolation, dict(options.env))


def model_data(place: Place, job: str) -> str:
    """Where a training job of ours puts its model."""
    return place.uri("output", job, "output", "model.tar.gz")


def models(options: argparse.Namespace, place: Place) -> Mapping[str, str] | None:
    """What a multi-model endpoint is to hold: addresses by the name that a request gives."""
    if not options.multi_model:
        return None
    return {f"{job}.tar.gz": model_data(place, job) for job in options.training_job}


def variant(options: argparse.Namespace) -> Instances | Serverless:
    """What an endpoint runs on."""
    if options.serverless:
        if options.startup_timeout:
            raise Mistake("--startup-timeout: a serverless endpoint has its own.")
        return Serverless(options.memory, options.concurrency or 5)
    if options.startup_timeout and not 60 <= options.startup_timeout <= 3600:
        raise Mistake(f"--startup-timeout: expected 60 to 3600 seconds, {options.startup_timeout} came.")
    return Instances(options.instance_type, options.instance_count, options.startup_timeout)


def queue(options: argparse.Namespace) -> Queue | None:
    """What makes an endpoint asynchronous."""
    if not options.asynchronous:
        if options.success_topic or options.error_topic:
            raise Mistake("--success-topic, --error-topic: only an --async endpoint tells.")
        return None
    return Queue(options.concurrency, options.success_topic, options.error_topic)


def batch(options: argparse.Namespace, place: Place) -> Batch:
    """What a transform reads and writes."""
    return Batch(
        options.input or place.uri("data", "batch") + "/",
        options.content_type,
        options.accept,
        options.compression,
        options.strategy,
        options.max_payload,
        options.concurrency,
        options.input_filter,
        options.output_filter,
        options.join,
    )
