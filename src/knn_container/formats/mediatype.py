"""Media types, as a channel's ContentType and a request's headers write them."""

from dataclasses import dataclass, field
from email.message import Message
from email.utils import collapse_rfc2231_value

CSV = "text/csv"
JSON = "application/json"
JSONLINES = "application/jsonlines"
RECORDIO = "application/x-recordio-protobuf"


@dataclass(frozen=True)
class MediaType:
    """A type such as `text/csv` in lower case, and its parameters with their names in lower case."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join([self.name, *(f"{key}={value}" for key, value in self.parameters.items())])


def parse(text: str) -> MediaType:
    """Reads `type/subtype; name=value`, with or without spaces and quotes (RFC 2045, section 5.1)."""
    message = Message()
    message["content-type"] = text.strip()
    try:
        (name, _), *parameters = message.get_params([("", "")])
    except (TypeError, ValueError):  # parameters in pieces (RFC 2231) that do not fit together
        return MediaType(text.partition(";")[0].strip().lower())
    return MediaType(
        name.strip().lower(), {key.lower(): collapse_rfc2231_value(value).strip() for key, value in parameters}
    )
