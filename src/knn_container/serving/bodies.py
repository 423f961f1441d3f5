"""Bodies of requests and answers: picks the format by its media type."""

from collections.abc import Mapping
from functools import lru_cache

from knn_container.batch import Column, Features
from knn_container.errors import FormatError, RequestError
from knn_container.formats import csv, json, mediatype, recordio
from knn_container.formats.mediatype import MediaType
from knn_container.serving.negotiation import COLUMNS, DISTANCES, LABELS, PREDICTED, Answer, whole_number

# As SageMaker's CSV has it: what is predicted first.
_CSV_ORDER = (PREDICTED, LABELS, DISTANCES, *COLUMNS[3:])
_REQUESTS = (mediatype.CSV, mediatype.JSON, mediatype.JSONLINES, mediatype.RECORDIO)


@lru_cache(256)
def read_type(header: str) -> MediaType:
    """Reads the Content-Type and refuses what cannot be read, before its body is.

    Raises:
        RequestError: 415.
    """
    content_type = mediatype.parse(header)
    if content_type.name not in _REQUESTS:
        raise RequestError(
            415, f"Content-Type: expected one of {', '.join(_REQUESTS)}, {content_type.name or 'no type'} came."
        )
    return content_type


def decode(content_type: MediaType, body: bytes, width: int) -> Features:
    """Reads a request's (n, width) rows.

    Args:
        content_type: as `read_type` gives it.
        body: the whole request.
        width: features in a row.

    Raises:
        RequestError: 400, the body is not what its type promises.
    """
    try:
        match content_type.name:
            case mediatype.CSV:
                return csv.decode_request(
                    body, width, label_size=_label_size(content_type), encoding=_encoding(content_type)
                )
            case mediatype.JSON:
                return json.decode_request(body, width)
            case mediatype.JSONLINES:
                return json.decode_lines(body, width)
            case _:
                return recordio.decode_request(body, width)
    except FormatError as error:
        raise RequestError(400, f"The {content_type.name} body cannot be read: {error}.") from error


def _label_size(content_type: MediaType) -> int:
    return whole_number(content_type.parameters.get("label_size", "0"), 0, "Content-Type: label_size")


def _encoding(content_type: MediaType) -> str:
    return content_type.parameters.get("encoding") or content_type.parameters.get("charset") or "utf-8"


def encode(answer: Answer, columns: Mapping[str, Column]) -> bytes:
    """Writes the answer to n rows.

    Args:
        answer: says how.
        columns: for each name a value, or a list of values, for each row.
    """
    match answer.media_type:
        case mediatype.JSON:
            return json.encode(columns)
        case mediatype.JSONLINES:
            return json.encode_lines(columns)
        case mediatype.CSV:
            return csv.encode([columns[name] for name in _CSV_ORDER if name in columns])
        case _:
            return recordio.encode_answers(columns)
