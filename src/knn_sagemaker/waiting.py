"""What takes minutes: jobs and endpoints, watched until they end."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from knn_sagemaker.api import Api
from knn_sagemaker.errors import Failure, Unreadable
from knn_sagemaker.requests import Request, Response

_BROKEN_ANSWERS = 3  # in a row that are taken for an accident
SIGN_OF_LIFE = 60.0  # seconds after which a status that has not changed is said again


@dataclass(frozen=True)
class Kind:
    """A kind of what SageMaker runs.

    Attributes:
        name: on the command line.
        noun: in sentences.
        resource: in an ARN.
        describe: the operation that tells of one.
        parameter: of that operation, the name.
        status: of its answer.
        done: the status of one that went well.
        over: statuses that stay, other than `done`.
        stop: the operation that stops one; None where there is none.
        detail: says more of an answer than its status.
    """

    name: str
    noun: str
    resource: str
    describe: str
    parameter: str
    status: str
    done: str
    over: tuple[str, ...]
    stop: str | None
    detail: Callable[[Response], str]

    def describing(self, name: str) -> Request:
        """Asks after one."""
        note = f"again and again, until {self.status} is {', '.join((self.done, *self.over[:-1]))} or {self.over[-1]}"
        return Request("sagemaker", self.describe, {self.parameter: name}, note)

    def stopping(self, name: str) -> Request:
        """Stops one."""
        if self.stop is None:
            raise Failure(f"An {self.noun} cannot be stopped, only deleted.")
        return Request("sagemaker", self.stop, {self.parameter: name})


def _transition(answer: Response) -> str:
    transitions = answer.get("SecondaryStatusTransitions") or [{}]
    parts = (answer.get("SecondaryStatus"), transitions[-1].get("StatusMessage"))
    return ", ".join(part for part in parts if part)


def _counts(answer: Response) -> str:
    counters = answer.get("TrainingJobStatusCounters") or {}
    return ", ".join(f"{number} {name}" for name, number in counters.items() if number)


def _nothing(_: Response) -> str:
    return ""


TRAINING = Kind(
    "training",
    "training job",
    "training-job",
    "DescribeTrainingJob",
    "TrainingJobName",
    "TrainingJobStatus",
    "Completed",
    ("Failed", "Stopped"),
    "StopTrainingJob",
    _transition,
)
TUNING = Kind(
    "tuning",
    "tuning job",
    "hyper-parameter-tuning-job",
    "DescribeHyperParameterTuningJob",
    "HyperParameterTuningJobName",
    "HyperParameterTuningJobStatus",
    "Completed",
    ("Failed", "Stopped"),
    "StopHyperParameterTuningJob",
    _counts,
)
TRANSFORM = Kind(
    "transform",
    "transform job",
    "transform-job",
    "DescribeTransformJob",
    "TransformJobName",
    "TransformJobStatus",
    "Completed",
    ("Failed", "Stopped"),
    "StopTransformJob",
    _nothing,
)
ENDPOINT = Kind(
    "endpoint",
    "endpoint",
    "endpoint",
    "DescribeEndpoint",
    "EndpointName",
    "EndpointStatus",
    "InService",
    ("Failed", "OutOfService"),
    None,
    _nothing,
)
KINDS = {kind.name: kind for kind in (TRAINING, TUNING, TRANSFORM, ENDPOINT)}


def say(text: str) -> None:
    """Tells a person; results for programs go to standard output."""
    print(text, file=sys.stderr, flush=True)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while something runs that goes on without us."""


class Watch:
    """Waits for things to end.

    Args:
        api: asks after them.
        pause: seconds between two questions.
        tell: takes a line of progress.
        sleep: waits.
        clock: tells seconds.
    """

    def __init__(
        self,
        api: Api,
        pause: float,
        tell: Callable[[str], None] = say,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._pause = pause
        self._tell = tell
        self._sleep = sleep
        self._clock = clock

    def until_done(self, kind: Kind, name: str) -> Response:
        """Waits until one is done, and gives what the last answer said.

        Raises:
            Failure: it ended otherwise; the reason is SageMaker's.
            Interrupted: Ctrl-C; what is watched goes on.
        """
        answer = self.until_over(kind, name)
        status = answer.get(kind.status)
        if status != kind.done:
            details = (answer.get("FailureReason"), kind.detail(answer))
            reason = next((str(detail) for detail in details if detail), "no reason given")
            raise Failure(f"The {kind.noun} {name} ended as {status}: {reason}")
        return answer

    def until_over(self, kind: Kind, name: str) -> Response:
        """As `until_done`, but any end will do."""
        try:
            return self._poll(kind, name)
        except Interrupted:
            raise
        except KeyboardInterrupt as interrupt:
            stop = f"Stop it:  scripts/sagemaker stop {kind.name} {name}\n" if kind.stop else ""
            raise Interrupted(
                f"The {kind.noun} {name} goes on.\n"
                f"See it:   scripts/sagemaker wait {kind.name} {name}\n"
                f"{stop}Delete all that was made:  scripts/sagemaker delete"
            ) from interrupt

    def _poll(self, kind: Kind, name: str) -> Response:
        request = kind.describing(name)
        started = said_at = self._clock()
        said = None
        while True:
            answer = self._ask(request)
            status = str(answer.get(kind.status))
            line = f"{status}{_in_brackets(kind.detail(answer))}"
            now = self._clock()
            if line != said or now - said_at >= SIGN_OF_LIFE:
                self._tell(f"{_elapsed(now - started)}  {name}: {line}")
                said, said_at = line, now
            if status in (kind.done, *kind.over):
                return answer
            self._sleep(self._pause)

    def _ask(self, request: Request) -> Response:
        """Asks again where an answer cannot be read: it would be a pity for the hours."""
        for _ in range(_BROKEN_ANSWERS):
            try:
                return self._api.send(request)
            except Unreadable as broken:
                self._tell(f"Asking again: {broken}")
                self._sleep(self._pause)
        return self._api.send(request)


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _elapsed(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:3}:{rest:02}"


def outcome(kind: Kind, answer: Mapping[str, Any]) -> dict[str, Any]:
    """What a person wants to know of one that is done."""
    if kind is TRAINING:
        return _trained(answer)
    if kind is TUNING:
        best = answer.get("BestTrainingJob") or {}
        return {
            "best_job": best.get("TrainingJobName"),
            "objective": (best.get("FinalHyperParameterTuningJobObjectiveMetric") or {}).get("Value"),
            "hyperparameters": best.get("TunedHyperParameters"),
        }
    if kind is TRANSFORM:
        return {"output": (answer.get("TransformOutput") or {}).get("S3OutputPath")}
    return {"status": answer.get("EndpointStatus")}


def _trained(answer: Mapping[str, Any]) -> dict[str, Any]:
    metrics = answer.get("FinalMetricDataList") or []
    return {
        "model": (answer.get("ModelArtifacts") or {}).get("S3ModelArtifacts"),
        "metrics": {metric["MetricName"]: metric["Value"] for metric in metrics},
        "billable_seconds": answer.get("BillableTimeInSeconds"),
    }
