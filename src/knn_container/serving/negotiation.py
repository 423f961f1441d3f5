"""Which answer a request's Accept header asks for."""

from dataclasses import dataclass

from werkzeug.http import parse_list_header

from knn_container.errors import RequestError
from knn_container.formats import mediatype
from knn_container.formats.mediatype import MediaType

# In the order in which a wildcard chooses; the first is the answer to no Accept header at all.
ANSWERS = (mediatype.JSON, mediatype.JSONLINES, mediatype.RECORDIO, mediatype.CSV)
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Answer:
    """How to answer.

    Attributes:
        media_type: one of `ANSWERS`.
        verbose: whether the neighbours' labels and distances are asked for.
    """

    media_type: str
    verbose: bool = False


def negotiate(accept: str | None) -> Answer:
    """Chooses the answer: the type with the highest weight, the first of equals (RFC 9110, section 12.5.1).

    Args:
        accept: the header; none, an empty one and wildcards ask for JSON. Parameters other than `verbose` and `q`
            are passed over.

    Raises:
        RequestError: 406, none of the types can be written; 400, `verbose` is neither true nor false.
    """
    accepted = [mediatype.parse(item) for item in parse_list_header(accept or "")] or [MediaType("*/*")]
    refused = {item.name for item in accepted if _weight(item) == 0}
    for item in sorted(accepted, key=_weight, reverse=True):
        for media_type in ANSWERS:
            if media_type not in refused and _weight(item) > 0 and _matches(item.name, media_type):
                return Answer(media_type, _verbose(item))
    raise RequestError(406, f"Accept: expected one of {', '.join(ANSWERS)}, {accept!r} came.")


def _matches(wanted: str, media_type: str) -> bool:
    return wanted in (media_type, "*/*", "*", "") or (wanted.endswith("/*") and media_type.startswith(wanted[:-1]))


def _weight(item: MediaType) -> float:
    try:
        return float(item.parameters.get("q", "1"))
    except ValueError:
        return 1.0


def _verbose(item: MediaType) -> bool:
    text = item.parameters.get("verbose", "false")
    if text.lower() not in _FLAGS:
        raise RequestError(400, f"Accept: expected verbose=true or verbose=false, verbose={text} came.")
    return _FLAGS[text.lower()]
