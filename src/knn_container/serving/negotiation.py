"""What a request asks for: the type of the answer, its columns, and how to search."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from werkzeug.http import parse_list_header

from knn_container.errors import RequestError, UserError
from knn_container.formats import mediatype
from knn_container.formats.mediatype import MediaType

# In the order in which a wildcard chooses; the first is the answer to no Accept header at all.
ANSWERS = (mediatype.JSON, mediatype.JSONLINES, mediatype.RECORDIO, mediatype.CSV)

PREDICTED, DISTANCES, LABELS, IDS = "predicted_label", "distances", "labels", "ids"
PROBABILITY, PROBABILITIES, CLASSES = "probability", "probabilities", "classes"
COLUMNS = (PREDICTED, DISTANCES, LABELS, IDS, PROBABILITY, PROBABILITIES, CLASSES)
_DIGITS = 100  # of a number in a request; Python refuses some thousands
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Answer:
    """How to answer.

    Attributes:
        media_type: one of `ANSWERS`.
        columns: some of `COLUMNS`, in their order.
        k: neighbours that vote; None for the model's.
        nprobe: inverted lists to look into; None for the model's.
    """

    media_type: str
    columns: tuple[str, ...] = (PREDICTED,)
    k: int | None = None
    nprobe: int | None = None


@dataclass(frozen=True)
class Defaults:
    """What holds where a request does not say otherwise.

    Attributes:
        accept: an Accept header.
        columns: some of `COLUMNS`.
    """

    accept: str = mediatype.JSON
    columns: tuple[str, ...] = (PREDICTED,)


def parse_columns(text: str) -> tuple[str, ...]:
    """Reads names of columns, separated by commas, in any case.

    Raises:
        ValueError: a name that is none of `COLUMNS`, or no name.
    """
    names = {name.strip().lower() for name in text.split(",")}
    if unknown := names.difference(COLUMNS):
        raise ValueError(f"expected some of {', '.join(COLUMNS)}, {', '.join(sorted(unknown)) or 'none'} came")
    return tuple(column for column in COLUMNS if column in names)


def read_defaults(accept: str, columns: str) -> Defaults:
    """Checks what the settings say.

    Raises:
        UserError: an Accept header or a column that cannot be answered.
    """
    try:
        defaults = Defaults(accept, parse_columns(columns))
        negotiate(None, None, defaults)
    except ValueError as error:
        raise UserError(f"SAGEMAKER_INFERENCE_OUTPUT: {error}.") from error
    except RequestError as error:
        raise UserError(f"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT: {error}") from error
    return defaults


@lru_cache(256)
def negotiate(accept: str | None, attributes: str | None = None, defaults: Defaults | None = None) -> Answer:
    """Chooses the answer: the type with the highest weight, the first of equals (RFC 9110, section 12.5.1).

    The options `verbose`, `k`, `nprobe` and `output` are parameters of the type that is chosen, or pairs such as
    `k=3; nprobe=20` in the custom attributes, which count where both have one. `verbose=true` adds the neighbours'
    distances and labels. Other parameters and attributes are passed over.

    Args:
        accept: the header; none, an empty one and `*/*` ask for the default.
        attributes: the header `X-Amzn-SageMaker-Custom-Attributes`.
        defaults: what holds where the request does not say.

    Raises:
        RequestError: 406, none of the types can be written; 400, an option has a value that it cannot have.
    """
    defaults = defaults or Defaults()
    chosen = _choose(accept or "", defaults)
    options = chosen.parameters | mediatype.parse(f"attributes;{attributes or ''}").parameters
    columns = defaults.columns
    if "output" in options:
        try:
            columns = parse_columns(options["output"])
        except ValueError as error:
            raise RequestError(400, f"The option output: {error}.") from error
    if _flag(options):
        columns = tuple(column for column in COLUMNS if column in (*columns, PREDICTED, DISTANCES, LABELS))
    return Answer(chosen.name, columns, _number(options, "k"), _number(options, "nprobe"))


def _choose(accept: str, defaults: Defaults) -> MediaType:
    accepted = [mediatype.parse(item) for item in parse_list_header(accept)] or [MediaType("*/*")]
    refused = {item.name for item in accepted if _weight(item) == 0}
    preferred = mediatype.parse(defaults.accept)
    if preferred.name not in ANSWERS:
        raise RequestError(406, f"expected one of {', '.join(ANSWERS)}, {defaults.accept!r} came.")
    for item in sorted(accepted, key=_weight, reverse=True):
        for media_type in (preferred.name, *ANSWERS):
            if media_type not in refused and _weight(item) > 0 and _matches(item.name, media_type):
                own = preferred.parameters if media_type == preferred.name and item.name != media_type else {}
                return MediaType(media_type, own | item.parameters)
    raise RequestError(406, f"Accept: expected one of {', '.join(ANSWERS)}, {accept!r} came.")


def _matches(wanted: str, media_type: str) -> bool:
    return wanted in (media_type, "*/*", "*", "") or (wanted.endswith("/*") and media_type.startswith(wanted[:-1]))


def _weight(item: MediaType) -> float:
    try:
        return float(item.parameters.get("q", "1"))
    except ValueError:
        return 1.0


def _flag(options: Mapping[str, str]) -> bool:
    text = options.get("verbose", "false")
    if text.lower() not in _FLAGS:
        raise RequestError(400, f"Expected verbose=true or verbose=false, verbose={text} came.")
    return _FLAGS[text.lower()]


def _number(options: Mapping[str, str], name: str) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    return whole_number(text, 1, f"The option {name}")


def whole_number(text: str, least: int, what: str) -> int:
    """Reads a number of a request.

    Raises:
        RequestError: 400, it is none, or below `least`.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < _DIGITS and int(text) >= least):
        raise RequestError(400, f"{what}: expected a whole number from {least}, {text[:40]!r} came.")
    return int(text)
