"""Where an object is, and what is known of it before it is read."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Location:
    """A place in S3.

    Attributes:
        bucket: its bucket.
        key: an object's key, or what keys begin with; it may be empty.
    """

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def below(self, name: str) -> "Location":
        """The place with this name in the folder that this one is."""
        return Location(self.bucket, f"{self.key.rstrip('/')}/{name}".lstrip("/"))


def parse(text: str) -> Location:
    """Reads `s3://BUCKET/KEY`; the key is taken as it is, nothing in it is decoded.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(text, str) or not (match := re.fullmatch(r"s3://([^/\s]+)(?:/(.*))?", text, re.DOTALL)):
        raise ValueError(f"expected s3://BUCKET/KEY, {text!r} came")
    return Location(match[1], match[2] or "")


def parse_object(text: str) -> Location:
    """Reads the place of an object.

    Raises:
        ValueError: it is something else, or no object can have this key.
    """
    location = parse(text)
    if not location.key or location.key.endswith("/"):
        raise ValueError(f"expected the key of an object, s3://BUCKET/KEY, {text!r} came")
    return location


@dataclass(frozen=True)
class Object:
    """An object as it was when it was listed.

    Attributes:
        path: its name below the prefix or the manifest that names it.
        location: where it is.
        size: in bytes.
        etag: S3's name for its content, in the quotes that S3 puts around it.
    """

    path: str
    location: Location
    size: int
    etag: str

    @property
    def mark(self) -> str:
        """Equal for equal objects that were written in the same way."""
        return self.etag.strip('"')
