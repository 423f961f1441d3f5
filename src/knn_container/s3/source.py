"""The objects of a channel, as `CreateTrainingJob` names them in its `S3DataSource`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from io import BufferedReader
from typing import Any

from knn_container.errors import UserError
from knn_container.s3.client import explained, head
from knn_container.s3.location import Location, Object, parse, parse_object
from knn_container.s3.stream import Check, ObjectStream, Room, go_on, side_by_side

_BUFFER = 1 << 20
_LOOKUPS = 16  # at a time


class Source:
    """The objects that a channel's `S3DataSource` names: `S3Prefix` or `ManifestFile`.

    Under `ShardedByS3Key` each host has every n-th of them, in the order of their paths, and may have none.

    Args:
        client: boto3's.
        config: the `S3DataSource`.
        host: this host's number, from 0.
        hosts: how many there are.
        check: called again and again while S3 is waited for; what it raises is raised.
        room: for the parts of all streams that are open.

    Raises:
        UserError: the `S3DataSource` says something else.
    """

    def __init__(
        self,
        client: Any,
        config: Mapping[str, Any],
        *,
        host: int = 0,
        hosts: int = 1,
        check: Check = go_on,
        room: Room | None = None,
    ) -> None:
        self._client, self._check, self._room = client, check, room or Room()
        self._find: Callable[[Any, Location, Room, Check], Sequence[Object]]
        match config.get("S3DataType"):
            case "S3Prefix":
                self._find, read = _prefixed, parse
            case "ManifestFile":
                self._find, read = _listed, parse_object
            case kind:
                raise UserError(f"S3DataType: expected S3Prefix or ManifestFile, {kind!r} came.")
        try:
            self.location = read(config.get("S3Uri", ""))
        except ValueError as error:
            raise UserError(f"S3Uri: {error}.") from error
        match config.get("S3DataDistributionType") or config.get("S3DistributionType") or "FullyReplicated":
            case "FullyReplicated":
                self._mine = slice(None)
            case "ShardedByS3Key":
                self._mine = slice(host, None, hosts)
            case kind:
                raise UserError(f"S3DataDistributionType: expected FullyReplicated or ShardedByS3Key, {kind!r} came.")
        self._objects: dict[str, Object] | None = None

    def list(self) -> list[Object]:
        """This host's objects in bytewise order of their paths; those whose keys end with `/` are left out.

        They are looked up once, and what `open` reads is what they were then.

        Raises:
            UserError: there are none for any host, or they cannot be listed.
            PlatformError: S3 does not answer.
        """
        if self._objects is None:
            found = sorted(
                self._find(self._client, self.location, self._room, self._check), key=lambda it: it.path.encode()
            )
            if not found:
                raise UserError(f"{self.location}: expected objects below this prefix or in this manifest, none came.")
            self._objects = {it.path: it for it in found[self._mine]}
        return list(self._objects.values())

    def open(self, path: str) -> BufferedReader:
        """Opens an object by its path. It is no error here but in reading that it cannot be read.

        Raises:
            FileNotFoundError: `list` does not have the path.
        """
        self.list()
        if self._objects is None or path not in self._objects:
            raise FileNotFoundError(f"{self.location}: no object has the path {path!r}.")
        return BufferedReader(ObjectStream(self._client, self._objects[path], self._room, self._check), _BUFFER)


def _prefixed(client: Any, place: Location, _: Room, check: Check) -> Sequence[Object]:
    """The objects whose keys begin with a prefix."""
    found = []
    with explained(place):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.key):
            check()
            found += [entry for entry in page.get("Contents", ()) if not entry["Key"].endswith("/")]
    start = _root(place.key, [entry["Key"] for entry in found])
    return [
        Object(entry["Key"][start:], Location(place.bucket, entry["Key"]), entry["Size"], entry.get("ETag", ""))
        for entry in found
    ]


def _listed(client: Any, place: Location, room: Room, check: Check) -> Sequence[Object]:
    """The objects that a manifest names."""
    with BufferedReader(ObjectStream(client, _look_up(client, place), room, check)) as stream:
        prefix, names = _read_manifest(place, stream.read())
    keys = sorted({prefix.key + name for name in names if not name.endswith("/")})
    start = _root(prefix.key, keys)
    places = (Location(prefix.bucket, key) for key in keys)
    found = side_by_side(lambda it: _look_up(client, it), places, _LOOKUPS, check)
    return [replace(it, path=it.location.key[start:]) for it in found]


def _root(prefix: str, keys: Sequence[str]) -> int:
    """Where in the keys the paths begin: behind the prefix where that is a folder, else behind its last `/`.

    This is how SageMaker names the files of File mode: https://github.com/aws/sagemaker-python-sdk/issues/3612.
    """
    folder = prefix if prefix.endswith("/") else f"{prefix}/"
    return len(folder) if all(key.startswith(folder) for key in keys) else prefix.rfind("/") + 1


def _look_up(client: Any, place: Location) -> Object:
    answer = head(client, place)
    return Object(place.key, place, answer["ContentLength"], answer.get("ETag", ""))


def _read_manifest(place: Location, content: bytes) -> tuple[Location, list[str]]:
    """Reads `[{"prefix": "s3://BUCKET/PREFIX"}, "NAME", ...]`."""
    try:
        document = json.loads(content)
        if not isinstance(document, list) or not document or not isinstance(document[0], dict):
            raise ValueError("expected a list with an object in front")
        prefix, names = parse(document[0].get("prefix", "")), document[1:]
        for number, name in enumerate(names, 2):
            if not isinstance(name, str) or not name:
                raise ValueError(f"expected a name as element {number}, {json.dumps(name)} came")
    except ValueError as error:
        raise UserError(
            f'{place} is not a manifest [{{"prefix": "s3://BUCKET/PREFIX"}}, "NAME", …]: {error}.'
        ) from error
    return prefix, names
