"""Asks endpoints."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knn_container.errors import FormatError
from knn_sagemaker import rows, storage
from knn_sagemaker.api import Api
from knn_sagemaker.errors import Failure, Mistake, Refused
from knn_sagemaker.place import Place
from knn_sagemaker.requests import Request, without_none
from knn_sagemaker.waiting import Interrupted

LARGEST_BODY = 6_291_456  # of InvokeEndpoint, both ways
_MISSING = ("NoSuchKey", "404", "AccessDenied")  # S3 says the last of keys that are not there where listing is denied


@dataclass(frozen=True)
class Question:
    """A request for predictions.

    Attributes:
        body: the rows.
        content_type, accept: as the container reads them.
        target: a model of a multi-model endpoint.
        attributes: options, as the container reads them.
    """

    body: bytes
    content_type: str
    accept: str
    target: str | None = None
    attributes: str | None = None


def read_body(path: Path | None, text: str | None, content_type: str | None) -> tuple[bytes, str]:
    """Takes a request's body from where it is, and gives its type.

    Args:
        path: a file, known by its suffix; `-` is the standard input.
        text: instead, on the command line.
        content_type: what it is; None takes the suffix's, or CSV for text.

    Raises:
        Mistake: there is none, or it cannot be read.
    """
    if (path is None) == (text is None):
        raise Mistake("Give rows to ask about: either a FILE or --body TEXT.")
    if text is not None:
        return text.encode(), content_type or "text/csv"
    assert path is not None  # noqa: S101 (the check above)
    try:
        if path == Path("-"):
            return sys.stdin.buffer.read(), content_type or "text/csv"
        kind = content_type or rows.content_type(path)
        if path.suffix == ".npy":
            return b"".join(rows.blocks(rows.load_rows(path), None)), kind
        return path.read_bytes(), kind
    except (OSError, FormatError) as error:
        raise Mistake(f"{path}: {error}") from error


def invoke(endpoint: str, question: Question) -> Request:
    """Plans a request to an endpoint that answers at once.

    Raises:
        Mistake: the body is too large for it.
    """
    if len(question.body) > LARGEST_BODY:
        raise Mistake(
            f"The body has {len(question.body):,} bytes, and an endpoint takes {LARGEST_BODY:,}: send fewer rows, or "
            "use --async or transform."
        )
    return Request(
        "sagemaker-runtime",
        "InvokeEndpoint",
        without_none(
            {
                "EndpointName": endpoint,
                "ContentType": question.content_type,
                "Accept": question.accept,
                "TargetModel": question.target,
                "CustomAttributes": question.attributes,
                "Body": question.body,
            }
        ),
    )


def invoke_later(place: Place, endpoint: str, question: Question, name: str) -> list[Request]:
    """Plans a request to an asynchronous endpoint, and the look for its answer.

    Args:
        place: where the rows are put.
        endpoint: its name.
        question: what is asked.
        name: of the object with the rows.
    """
    if question.target:
        raise Mistake("--target-model: an asynchronous endpoint has one model.")
    key = place.key("async", "input", name)
    ask = without_none(
        {
            "EndpointName": endpoint,
            "ContentType": question.content_type,
            "Accept": question.accept,
            "CustomAttributes": question.attributes,
            "InputLocation": f"s3://{place.bucket}/{key}",
        }
    )
    put = {"Bucket": place.bucket, "Key": key, "Body": question.body, "ContentType": question.content_type}
    later = "again and again, until one of the two is there"
    return [
        Request("s3", "PutObject", put),
        Request("sagemaker-runtime", "InvokeEndpointAsync", ask),
        Request("s3", "GetObject", {"Bucket": place.bucket, "Key": "<OutputLocation of the answer>"}, later),
        Request("s3", "GetObject", {"Bucket": place.bucket, "Key": "<FailureLocation of the answer>"}, later),
    ]


def shown(request: Request) -> Request:
    """The request as a dry run prints it: a body that is no text is only measured."""
    body = request.parameters.get("Body")
    if not isinstance(body, bytes):
        return request
    try:
        text = body.decode()
        printable = len(text) <= 200 and all(letter.isprintable() or letter in "\r\n\t" for letter in text)
    except UnicodeDecodeError:
        printable = False
    parameters: dict[str, Any] = {**request.parameters, "Body": text if printable else f"<{len(body):,} bytes>"}
    return Request(request.service, request.operation, parameters, request.note)


def send_later(
    api: Api,
    requests: list[Request],
    pause: float,
    patience: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bytes:
    """Sends what `invoke_later` plans, and gives the answer.

    Args:
        api: sends.
        requests: the plan.
        pause: seconds between two looks.
        patience: seconds to wait in all.
        sleep: waits.
        clock: tells seconds.

    Raises:
        Failure: the endpoint's own words, or that none came.
        Interrupted: Ctrl-C; says where the answer will be.
    """
    put, ask = requests[:2]
    api.send(put)
    answer = api.send(ask)
    output, failure = str(answer.get("OutputLocation") or ""), answer.get("FailureLocation")
    if not output:
        raise Failure("The answer does not say where there will be predictions.")
    started = clock()
    try:
        while clock() - started < patience:
            if (found := _found(api, output)) is not None:
                return found
            if failure and (found := _found(api, str(failure))) is not None:
                raise Failure(f"The model answered: {found.decode(errors='replace')}")
            sleep(pause)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"The request goes on; its answer will be at {output}") from interrupt
    raise Failure(f"No answer within {patience:g} seconds; it will be at {output}, or why there is none at {failure}")


def _found(api: Api, uri: str) -> bytes | None:
    try:
        return storage.read_uri(api, uri)
    except Refused as refused:
        if refused.code in _MISSING:
            return None
        raise
