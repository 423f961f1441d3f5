"""Bodies of requests and answers: picks the format by its media type."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import Features
from knn_container.errors import FormatError, RequestError
from knn_container.formats import csv, json, mediatype, recordio
from knn_container.formats.mediatype import MediaType
from knn_container.model import Model, Predictions
from knn_container.serving.negotiation import Answer

_REQUESTS = (mediatype.CSV, mediatype.JSON, mediatype.JSONLINES, mediatype.RECORDIO)


def check_type(content_type: MediaType) -> None:
    """Refuses what cannot be read before its body is.

    Raises:
        RequestError: 415.
    """
    if content_type.name not in _REQUESTS:
        raise RequestError(
            415, f"Content-Type: expected one of {', '.join(_REQUESTS)}, {content_type.name or 'none'!r} came."
        )


def decode(content_type: MediaType, body: bytes, width: int) -> Features:
    """Reads a request's (n, width) rows.

    Raises:
        RequestError: 415 for another content type, 400 for a body that is not what its type promises.
    """
    check_type(content_type)
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
    text = content_type.parameters.get("label_size", "0")
    if not text.isdecimal():
        raise RequestError(400, f"Content-Type: expected label_size to be a whole number from 0, {text!r} came.")
    return int(text)


def _encoding(content_type: MediaType) -> str:
    return content_type.parameters.get("encoding") or content_type.parameters.get("charset") or "utf-8"


def encode(answer: Answer, model: Model, predictions: Predictions) -> bytes:
    """Writes the answer: a row's prediction and, if verbose, its neighbours' labels and distances.

    Both lists are in ascending order of the distances, as the built-in algorithm has them: for a similarity the
    nearest neighbour so comes last. Labels and predictions are float32 where that holds all of the model's labels
    exactly, else float64.
    """
    predicted: NDArray[np.generic] = predictions.predicted
    columns = _neighbours(model, predictions) if answer.verbose else {}
    match answer.media_type:
        case mediatype.JSON:
            return json.encode({"predicted_label": list(predicted), **columns})
        case mediatype.JSONLINES:
            return json.encode_lines({"predicted_label": list(predicted), **columns})
        case mediatype.CSV:
            lists = [columns[name] for name in ("labels", "distances") if name in columns]
            return csv.encode([list(predicted[:, np.newaxis]), *lists])
        case _:
            one_each = predicted.astype(model.answer_type)[:, np.newaxis]
            return recordio.encode_answers({"predicted_label": list(one_each), **columns})


def _neighbours(model: Model, predictions: Predictions) -> dict[str, Sequence[NDArray[np.generic]]]:
    rows, values = predictions.neighbours.rows, predictions.neighbours.values
    if model.options.metric.is_similarity:
        rows, values = rows[:, ::-1], values[:, ::-1]
    labels = model.labels[rows].astype(model.answer_type)
    found = rows >= 0
    if found.all():
        return {"distances": list(np.ascontiguousarray(values)), "labels": list(labels)}
    return {
        "distances": [value[exists] for value, exists in zip(values, found, strict=True)],
        "labels": [label[exists] for label, exists in zip(labels, found, strict=True)],
    }
