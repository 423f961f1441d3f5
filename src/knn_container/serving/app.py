"""The Flask applications: routes that translate between HTTP and the data plane."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from flask import Flask, Request, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from knn_container.errors import RequestError
from knn_container.formats import json, mediatype
from knn_container.model import Model
from knn_container.serving import bodies
from knn_container.serving.admission import Admission, Place
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.negotiation import negotiate
from knn_container.serving.short_way import ShortWay
from knn_container.serving.store import ModelHolder

log = logging.getLogger(__name__)

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
# A request waits in its thread for its body and for a CPU. Some threads are kept for /ping and /models.
THREADS = 128
_PLACES = THREADS - 16
_PIECE = 1 << 20  # bytes of a chunked body that are read at once
# SageMaker's own default for a batch transform's payload.
_BATCH_PAYLOAD_MB = 6
_BATCH_MB = 100  # and its limit for all payloads that are on their way at once


class Endpoint:
    """What the routes of one model and of many have in common.

    Args:
        plane: does the work.
        max_content_length: the largest request body in bytes.
        waiting_bytes: that all bodies may have that wait or are worked on; one alone may be larger.
    """

    def __init__(self, plane: DataPlane, max_content_length: int, waiting_bytes: int) -> None:
        self._plane = plane
        self._max_content_length = max_content_length
        self._admission = Admission(_PLACES, waiting_bytes)

    def invoke(self, lend: Callable[[], AbstractContextManager[Model]]) -> Response:
        """Answers the request at hand; borrows the model once the request is whole."""
        headers = request.headers
        with self._admission.admit() as place:
            answer = negotiate(headers.get("Accept"), headers.get(ATTRIBUTES), self._plane.defaults)
            content_type = bodies.read_type(headers.get("Content-Type", ""))
            body = read_body(request, self._max_content_length, place)
            with lend() as model:
                return Response(self._plane.invoke(model, content_type, body, answer), content_type=answer.media_type)

    def make_app(self) -> Flask:
        """Makes an application that turns every error into a body that explains it."""
        app = Flask("knn_container")

        @app.errorhandler(RequestError)
        def refused(error: RequestError) -> ResponseReturnValue:
            return _refuse(error.status, str(error))

        @app.errorhandler(HTTPException)
        def not_routed(error: HTTPException) -> ResponseReturnValue:
            return _refuse(error.code or 500, f"{error.name}: {request.method} {request.path}")

        @app.errorhandler(Exception)
        def failed(error: Exception) -> ResponseReturnValue:
            log.exception("A request failed.")
            return _refuse(500, f"The request failed inside the server: {type(error).__name__}: {error}")

        @app.after_request
        def return_attributes(response: Response) -> Response:
            if ATTRIBUTES in request.headers:
                response.headers[ATTRIBUTES] = request.headers[ATTRIBUTES]
            return response

        return app


def create_app(
    plane: DataPlane,
    holder: ModelHolder,
    max_content_length: int,
    waiting_bytes: int = 1 << 30,
    *,
    batch_strategy: str = "MULTI_RECORD",
) -> Flask:
    """Makes the application for one model.

    Args:
        plane: does the work.
        holder: has the model.
        max_content_length: the largest request body in bytes.
        waiting_bytes: as for `Endpoint`.
        batch_strategy: how `/execution-parameters` spells that several records may come in one request.
    """
    endpoint = Endpoint(plane, max_content_length, waiting_bytes)
    app = endpoint.make_app()
    app.extensions[ShortWay.__name__] = ShortWay(plane, holder, max_content_length)

    @app.get("/ping")
    def ping() -> ResponseReturnValue:
        holder.check_ready()
        return "", 200

    @app.get("/execution-parameters")
    def execution_parameters() -> ResponseReturnValue:
        concurrent = min(plane.turns.cpus, _BATCH_MB)
        payload = max(1, min(_BATCH_PAYLOAD_MB, max_content_length >> 20, _BATCH_MB // concurrent))
        return {
            "MaxConcurrentTransforms": concurrent,
            "BatchStrategy": batch_strategy,
            "MaxPayloadInMB": payload,
        }

    @app.post("/invocations")
    def invocations() -> ResponseReturnValue:
        holder.get()
        return endpoint.invoke(lambda: nullcontext(holder.get()))

    return app


def read_body(incoming: Request, limit: int, place: Place | None = None) -> bytes:
    """Reads a body, chunked or not, of at most `limit` bytes, and counts it at its place.

    Raises:
        RequestError: 413, from the Content-Length before the body is read, or as soon as the limit is passed; 503, as
            `Place.take`.
    """
    length = incoming.content_length
    if length is not None:
        if length > limit:
            raise RequestError(413, f"Expected a body of at most {limit} bytes (MAX_CONTENT_LENGTH), {length} came.")
        if place:
            place.take(length)
        return incoming.stream.read(length)
    pieces, came = [], 0
    while piece := incoming.stream.read(min(_PIECE, limit + 1 - came)):
        if place:
            place.take(len(piece))
        pieces.append(piece)
        if (came := came + len(piece)) > limit:
            raise RequestError(413, f"Expected a body of at most {limit} bytes (MAX_CONTENT_LENGTH), more came.")
    return b"".join(pieces)


def _refuse(status: int, reason: str) -> Response:
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(json.encode_error(status, reason), status, headers, content_type=mediatype.JSON)
