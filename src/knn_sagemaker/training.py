"""Plans training and tuning jobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from knn_container import hyperparameters
from knn_container.errors import UserError
from knn_container.formats import mediatype
from knn_sagemaker import metrics
from knn_sagemaker.errors import Failure, Mistake
from knn_sagemaker.place import Place, split_uri
from knn_sagemaker.requests import Request, Response, Step
from knn_sagemaker.settings import Channels, Machines
from knn_sagemaker.waiting import TRAINING, TUNING

LONGEST_TUNING_NAME = 32
TUNABLE = ("k", "sample_size")
_SUFFIXES = {".csv": mediatype.CSV, ".pbr": mediatype.RECORDIO}


def train(
    place: Place, job: str, given: Mapping[str, str], channels: Channels, machines: Machines, *, wait: bool
) -> list[Step]:
    """Plans a training job.

    Args:
        place: where.
        job: its name.
        given: hyperparameters, which are checked here, before there is anything to pay for.
        channels: the data.
        machines: what it runs on.
        wait: to its end.

    Raises:
        Mistake: the job would be refused, or fail at its start.
    """
    check_hyperparameters(given)
    create = Request(
        "sagemaker",
        "CreateTrainingJob",
        {
            "TrainingJobName": place.named("--job", job),
            "HyperParameters": dict(given),
            "AlgorithmSpecification": {
                "TrainingImage": machines.image,
                "TrainingInputMode": channels.input_mode,
                "MetricDefinitions": metrics.definitions(),
            },
            "InputDataConfig": channels.config(place),
            **machines.definition(place),
            "Tags": place.tags,
        },
    )
    return [*_looks(place, channels), create, *([TRAINING.describing(job)] if wait else [])]


@dataclass(frozen=True)
class Search:
    """What a tuning job tries.

    Attributes:
        ranges: the least and the largest value by hyperparameter.
        objective: a metric's name.
        strategy: `Bayesian` or `Random`.
        jobs, parallel: training jobs, in all and at a time.
    """

    ranges: Mapping[str, tuple[int, int]]
    objective: str
    strategy: str = "Bayesian"
    jobs: int = 10
    parallel: int = 2


def tune(
    place: Place,
    job: str,
    given: Mapping[str, str],
    *,
    search: Search,
    channels: Channels,
    machines: Machines,
    wait: bool,
) -> list[Step]:
    """Plans a tuning job; the other arguments are those of `train`.

    Raises:
        Mistake: as `train`.
    """
    metric = _checked(given, search, channels)
    definition = {
        "StaticHyperParameters": dict(given),
        "AlgorithmSpecification": {
            "TrainingImage": machines.image,
            "TrainingInputMode": channels.input_mode,
            "MetricDefinitions": metrics.definitions(),
        },
        "InputDataConfig": channels.config(place),
        **machines.definition(place),
    }
    ranges = [
        {"Name": name, "MinValue": str(low), "MaxValue": str(high), "ScalingType": "Auto"}
        for name, (low, high) in search.ranges.items()
    ]
    config = {
        "Strategy": search.strategy,
        "HyperParameterTuningJobObjective": {"Type": metric.goal, "MetricName": metric.name},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": search.jobs, "MaxParallelTrainingJobs": search.parallel},
        "ParameterRanges": {"IntegerParameterRanges": ranges},
    }
    create = Request(
        "sagemaker",
        "CreateHyperParameterTuningJob",
        {
            "HyperParameterTuningJobName": place.named("--job", job, LONGEST_TUNING_NAME),
            "HyperParameterTuningJobConfig": config,
            "TrainingJobDefinition": definition,
            "Tags": place.tags,
        },
    )
    return [*_looks(place, channels), create, *([TUNING.describing(job)] if wait else [])]


def _checked(given: Mapping[str, str], search: Search, channels: Channels) -> metrics.Metric:
    if not search.ranges:
        raise Mistake("Nothing to tune: give a range, such as --k 1:50 or --sample-size 1000:100000.")
    for name, (low, high) in search.ranges.items():
        if low >= high:
            raise Mistake(f"--{name.replace('_', '-')}: expected LOW:HIGH with LOW below HIGH, {low}:{high} came.")
    for end in (0, 1):
        check_hyperparameters({**given, **{name: str(values[end]) for name, values in search.ranges.items()}})
    metric = metrics.OBJECTIVES[search.objective]
    if metric.predictor_type != given.get("predictor_type"):
        raise Mistake(f"--objective: {metric.name} is of a {metric.predictor_type}, not a {given['predictor_type']}.")
    if "test" not in channels.uris:
        raise Mistake(f"Tuning needs the channel test, from which {metric.name} is computed: add --channel test.")
    if search.parallel > search.jobs:
        raise Mistake(f"--parallel: expected at most --jobs, which is {search.jobs}; {search.parallel} came.")
    return metric


def check_hyperparameters(given: Mapping[str, str]) -> None:
    """Finds the mistakes that the container would find, minutes later.

    Raises:
        Mistake: names all of them.
    """
    try:
        hyperparameters.parse(given)
    except UserError as error:
        raise Mistake(str(error)) from error


def _looks(place: Place, channels: Channels) -> list[Request]:
    """Looks into the channels that `upload` wrote; others may be out of this user's sight."""
    if "train" not in channels.uris:
        raise Mistake(f"Missing required channel: train. Channels that came: {', '.join(channels.uris) or 'none'}.")
    requests = []
    for name, uri in channels.at(place).items():
        if place.owns(uri):
            bucket, prefix = split_uri(name, uri)
            note = "only to see that the channel holds what is said of it, before anything costs"
            parameters = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": 100}
            requests.append(Request("s3", "ListObjectsV2", parameters, note, _holds(name, uri, channels.content_type)))
    return requests


def _holds(channel: str, uri: str, content_type: str) -> Callable[[Response], None]:
    def check(answer: Response) -> None:
        keys = [str(item["Key"]).removesuffix(".gz") for item in answer.get("Contents") or []]
        if not keys:
            raise Failure(
                f"The channel {channel} is empty: there is nothing at {uri}. Put something there: "
                f"scripts/sagemaker upload FILE --channel {channel}"
            )
        wanted = mediatype.parse(content_type).name
        for key in keys:
            known = next((kind for suffix, kind in _SUFFIXES.items() if key.endswith(suffix)), wanted)
            if known != wanted:
                raise Failure(
                    f"The channel {channel} holds {key}, which is {known}, and the content type is said to be "
                    f"{content_type}: give --content-type, or delete the file."
                )

    return check
