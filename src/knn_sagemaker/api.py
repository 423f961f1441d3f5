"""Sends requests through boto3, and turns what can go wrong into one kind of error."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.parsers import ResponseParserError

from knn_sagemaker.errors import Failure, Refused, Unreadable
from knn_sagemaker.requests import Request, Response

ATTEMPTS = 10  # with botocore's pauses of up to 20 seconds between them: throttling passes within that


class Api:
    """The services of one region.

    Args:
        session: has the credentials.
        region: where.
    """

    def __init__(self, session: boto3.Session, region: str) -> None:
        self._session = session
        self._region = region
        self._clients: dict[str, Any] = {}

    def close(self) -> None:
        """Closes its connections."""
        for client in self._clients.values():
            client.close()

    def client(self, service: str) -> Any:
        """Gives a service's client."""
        if service not in self._clients:
            attempts = int(os.environ.get("AWS_MAX_ATTEMPTS") or ATTEMPTS)
            # An invocation may take as long as SageMaker lets it, which is 60 seconds.
            config = Config(retries={"mode": "standard", "total_max_attempts": attempts}, read_timeout=70)
            with failures(service):
                self._clients[service] = self._session.client(service, region_name=self._region, config=config)
        return self._clients[service]

    def send(self, request: Request) -> Response:
        """Sends a request and gives its answer.

        Raises:
            Refused: the service answered with an error.
            Failure: there was no answer, or none that can be read.
        """
        client = self.client(request.service)
        with failures(request.operation):
            answer: Response = getattr(client, xform_name(request.operation))(**request.parameters)
        _check(client, request.operation, answer)
        if request.then:
            request.then(answer)
        return answer

    def items(self, request: Request, member: str) -> Iterator[Any]:
        """Sends a request as often as it takes to see all items of its answer.

        Args:
            request: of an operation that lists.
            member: the answer's list.

        Raises:
            Failure: as `send`.
        """
        client = self.client(request.service)
        paginator = client.get_paginator(xform_name(request.operation))
        pages = iter(paginator.paginate(**request.parameters))
        while True:
            with failures(request.operation):
                page = next(pages, None)
            if page is None:
                return
            _check(client, request.operation, page)
            yield from page.get(member) or []


def _check(client: Any, operation: str, answer: Response) -> None:
    """Botocore takes a body that is something else (a proxy's page, say) for an answer that says nothing."""
    model = client.meta.service_model
    shape = model.operation_model(operation).output_shape
    # S3 says nothing where all went well, except where it lists.
    speaks = model.protocol in ("json", "query") or operation.startswith("List")
    if speaks and shape is not None and shape.members and not shape.members.keys() & answer.keys():
        raise _unreadable(operation, "it says nothing of what was asked")


def _unreadable(operation: str, why: str) -> Unreadable:
    return Unreadable(f"{operation}: the answer cannot be read, so that it may have happened or not: {why}")


@contextmanager
def failures(operation: str) -> Iterator[None]:
    """Turns boto3's errors into Failure."""
    try:
        yield
    except ClientError as error:
        raise refusal(operation, error) from error
    except NoCredentialsError as error:
        raise Failure(
            f"{operation}: no credentials were found. Log in as you do for the AWS command line, or set AWS_PROFILE or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    # Its parsers take an answer to be well-formed, and stumble over one that is not.
    except (ResponseParserError, LookupError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise _unreadable(operation, repr(error)[:300]) from error
    except (BotoCoreError, Boto3Error) as error:
        raise Failure(f"{operation}: {error}") from error


def refusal(operation: str, error: ClientError) -> Refused:
    """Keeps what the service and, behind it, the container say."""
    answer = error.response.get("Error", {})
    message = str(answer.get("Message") or "no reason given")
    if "OriginalStatusCode" in error.response:  # the container's own words, of InvokeEndpoint
        message = f"the model answered {error.response['OriginalStatusCode']}: {error.response.get('OriginalMessage')}"
    return Refused(operation, str(answer.get("Code") or "unknown"), message)
