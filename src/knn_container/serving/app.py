"""The Flask application: `/ping` and `/invocations`."""

import logging

from flask import Flask, Request, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from knn_container.errors import RequestError
from knn_container.formats import json, mediatype
from knn_container.serving import bodies
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.negotiation import negotiate

log = logging.getLogger(__name__)


def create_app(plane: DataPlane, max_content_length: int) -> Flask:
    """Makes the application.

    Args:
        plane: does the work.
        max_content_length: the largest request body in bytes.
    """
    app = Flask("knn_container")

    @app.get("/ping")
    def ping() -> ResponseReturnValue:
        plane.check_ready()
        return "", 200

    @app.post("/invocations")
    def invocations() -> ResponseReturnValue:
        answer = negotiate(request.headers.get("Accept"))
        content_type = mediatype.parse(request.headers.get("Content-Type", ""))
        bodies.check_type(content_type)
        body = _read_body(request, max_content_length)
        return Response(plane.invoke(content_type, body, answer), content_type=answer.media_type)

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

    return app


def _read_body(incoming: Request, limit: int) -> bytes:
    """Reads a body, chunked or not, of at most `limit` bytes.

    Raises:
        RequestError: 413, from the Content-Length before the body is read, or as soon as the limit is passed.
    """
    length = incoming.content_length
    if length is not None and length > limit:
        raise RequestError(413, f"Expected a body of at most {limit} bytes (MAX_CONTENT_LENGTH), {length} came.")
    body = incoming.stream.read(limit + 1)
    if len(body) > limit:
        raise RequestError(413, f"Expected a body of at most {limit} bytes (MAX_CONTENT_LENGTH), more came.")
    return body


def _refuse(status: int, reason: str) -> Response:
    return Response(json.encode_error(status, reason), status, content_type=mediatype.JSON)
