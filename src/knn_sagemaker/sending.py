"""Sends a plan."""

from collections.abc import Sequence

from knn_sagemaker import storage
from knn_sagemaker.api import Api
from knn_sagemaker.errors import Failure, Refused
from knn_sagemaker.requests import Request, Response, Step
from knn_sagemaker.waiting import KINDS, Watch, say

_MISSING = ("403", "404", "AccessDenied", "NoSuchKey")
_WATCHED = {kind.describe: kind for kind in KINDS.values()}


def send(api: Api, steps: Sequence[Step], pause: float) -> Response:
    """Sends requests in order, waiting where the plan waits, and gives the last answer.

    Args:
        api: sends.
        steps: the plan.
        pause: seconds between two looks at what takes minutes.

    Raises:
        Failure: a step failed; what was made until then is named.
    """
    answer: Response = {}
    made: list[str] = []
    try:
        for step in steps:
            assert isinstance(step, Request)  # noqa: S101 (only push runs other programs)
            answer = _send_one(api, step, pause)
            if step.operation.startswith("Create"):
                made.append(step.operation.removeprefix("Create"))
    except Failure:
        if made:
            say(f"Made before that: {', '.join(made)}. To delete all that was made: scripts/sagemaker delete")
        raise
    return answer


def _send_one(api: Api, step: Request, pause: float) -> Response:
    if kind := _WATCHED.get(step.operation):
        return Watch(api, pause).until_done(kind, str(step.parameters[kind.parameter]))
    try:
        if step.operation == "CopyObject":
            storage.send_copy(api, step)
            return {}
        return api.send(step)
    except Refused as refused:
        # S3 says 403 of objects that are not there to whoever may not list all of the bucket.
        if step.operation in ("HeadObject", "CopyObject") and refused.code in _MISSING:
            source = step.parameters.get("CopySource") or f"{step.parameters['Bucket']}/{step.parameters['Key']}"
            raise Failure(
                f"There is no model at s3://{source}, or it may not be read: has the training job ended, and under "
                "this --name?"
            ) from refused
        raise
