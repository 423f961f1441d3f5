"""The short way of small requests: without a thread of their own, and without Flask.

A request that is whole in its socket's buffer and plain in its headers is decoded by the thread that watches the
connections, and answered by the thread that has searched, which spares some ten switches between threads. Whatever is
not so, or gets another status than 200, stays unread in the socket and goes the usual way.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

from knn_container.errors import RequestError
from knn_container.formats import json, mediatype
from knn_container.serving import bodies
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.negotiation import negotiate
from knn_container.serving.store import ModelHolder

log = logging.getLogger(__name__)

_START, _END = b"POST /invocations HTTP/1.1\r\n", b"\r\n\r\n"
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x20-\x7e]*)")  # RFC 9110, section 5
_LENGTH = re.compile("[0-9]{1,9}")
_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
# They change what the body is, or what becomes of the connection.
_NOT_PLAIN = {"connection", "content-encoding", "expect", "te", "trailer", "transfer-encoding", "upgrade"}


@dataclass(frozen=True)
class Head:
    """What counts of a request's headers; None for one that is not there.

    Attributes:
        length: bytes of the body.
        content_type: the header.
        accept: the header.
        attributes: the header `X-Amzn-SageMaker-Custom-Attributes`.
    """

    length: int
    content_type: str
    accept: str | None
    attributes: str | None


@lru_cache(1024)
def read_head(head: bytes) -> Head | None:
    """Reads the first line and the headers of a request; gives None where they are not plain."""
    headers: dict[str, str] = {}
    for line in head.removeprefix(_START).split(b"\r\n"):
        match = _HEADER.fullmatch(line)
        name = match[1].decode().lower() if match else ""
        if not match or name in headers or name in _NOT_PLAIN:
            return None
        headers[name] = match[2].decode().strip()
    length = headers.get("content-length", "")
    if not head.startswith(_START) or "host" not in headers or not _LENGTH.fullmatch(length):
        return None
    return Head(int(length), headers.get("content-type", ""), headers.get("accept"), headers.get(_ATTRIBUTES.lower()))


class ShortWay:
    """Answers small requests for one model.

    Args:
        plane: does the work.
        holder: has the model.
        max_content_length: the largest request body in bytes.
    """

    def __init__(self, plane: DataPlane, holder: ModelHolder, max_content_length: int) -> None:
        self._plane = plane
        self._holder = holder
        self._max_content_length = max_content_length

    def begin(self, received: bytes, send: Callable[[bytes], None]) -> bool:
        """Begins to answer a request, if it can go the short way.

        Args:
            received: all that has come.
            send: takes the response; called in another thread.

        Returns:
            Whether it does; else nothing has happened.
        """
        end = received.find(_END)
        head, body = read_head(received[:end]) if end > 0 else None, received[end + len(_END) :]
        if head is None or len(body) != head.length or head.length > self._max_content_length:
            return False
        try:
            model = self._holder.get()
            answer = negotiate(head.accept, head.attributes, self._plane.defaults)
            content_type = bodies.read_type(head.content_type)

            def respond(encoded: bytes | Exception) -> None:
                send(_response(encoded, answer.media_type, head.attributes))

            return self._plane.ask(model, content_type, body, answer, respond)
        except RequestError:
            return False
        except Exception:
            log.exception("A request cannot go the short way.")
            return False


def _response(encoded: bytes | Exception, media_type: str, attributes: str | None) -> bytes:
    status = "200 OK"
    if isinstance(encoded, Exception):
        code = encoded.status if isinstance(encoded, RequestError) else 500
        status, media_type = f"{code} ", mediatype.JSON
        log.error("A request failed.", exc_info=encoded)
        encoded = json.encode_error(code, f"The request failed inside the server: {encoded!r}")
    returned = f"{_ATTRIBUTES}: {attributes}\r\n" if attributes is not None else ""
    return (
        f"HTTP/1.1 {status}\r\nServer: gunicorn\r\nDate: {formatdate(usegmt=True)}\r\nConnection: keep-alive\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: {len(encoded)}\r\n{returned}\r\n"
    ).encode("ascii") + encoded
