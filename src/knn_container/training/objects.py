"""Channels that no platform stages: the objects that `CreateTrainingJob`'s `DataSource` names are read from S3."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from io import BufferedReader
from typing import Any

from knn_container import heap
from knn_container.errors import ReadingStopped, UserError
from knn_container.s3.client import connect
from knn_container.s3.source import Source
from knn_container.s3.stream import Room
from knn_container.training.channels import FULLY_REPLICATED, Channel, File
from knn_container.training.stopping import Stopper

_READERS = 8  # small objects take S3's time to answer, not the CPU's

log = logging.getLogger(__name__)


class Store:
    """S3, as one host of a job uses it: one client, and one room for all that is being read.

    Args:
        stop: ends the reading early.
        host: this host's number, from 0.
        hosts: how many there are.
    """

    def __init__(self, stop: Stopper, host: int, hosts: int) -> None:
        self._stop, self._host, self._hosts = stop, host, hosts
        self._room = Room()

    @cached_property
    def client(self) -> Any:
        """boto3's, made when it is first asked for.

        Raises:
            UserError: there is no boto3, or its configuration cannot be used.
        """
        return connect()

    def fill(self, channel: Channel, config: Mapping[str, Any]) -> Channel:
        """Gives a channel the objects of its `DataSource` in place of what the platform stages.

        Args:
            channel: as it is without them.
            config: its entry in `inputdataconfig.json`.

        Raises:
            UserError: the `DataSource` says something that is not known here, or there is no boto3.
        """
        source = config["DataSource"].get("S3DataSource") if isinstance(config["DataSource"], dict) else None
        if not isinstance(source, dict):
            raise UserError(
                f"Channel {channel.name!r}: expected a DataSource with an S3DataSource, {config['DataSource']!r} came."
            )
        try:
            distribution = _distribution(channel, source)
            objects = Source(
                self.client,
                source | {"S3DataDistributionType": distribution},
                host=self._host,
                hosts=self._hosts,
                check=self._stop.check,
                room=self._room,
            )
        except UserError as error:
            raise UserError(f"Channel {channel.name!r}: {error}") from error
        heap.share_one_heap()  # of the many short-lived threads that fetch: measured, a quarter less is resident
        return replace(channel, source=Objects(objects), distribution=distribution, readers=_READERS)


def _distribution(channel: Channel, source: Mapping[str, Any]) -> str:
    """Who is to read the objects, which the channel may say, or its data source in either spelling of its name."""
    said = [channel.distribution, source.get("S3DataDistributionType"), source.get("S3DistributionType")]
    found = list(dict.fromkeys(filter(None, said)))
    if len(found) > 1:
        raise UserError(
            f"S3DistributionType: expected the same of the channel and of its S3DataSource, {found[0]} and {found[1]} "
            "came."
        )
    return found[0] if found else FULLY_REPLICATED


class Objects:
    """The objects of a channel as its files."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def where(self) -> str:
        """The prefix or the manifest."""
        return str(self._source.location)

    def list(self, *, marked: bool) -> list[File]:  # noqa: ARG002 (S3 has marks at hand)
        """This host's objects; names that begin with `.` or `_` are left out.

        Raises:
            UserError: there are none for any host, or they cannot be listed; or SIGTERM came.
            PlatformError: S3 does not answer.
        """
        try:
            found = self._source.list()
        except ReadingStopped:
            raise UserError("SIGTERM came before the first row was read.") from None
        files = [
            File(it.path, it.size, it.mark)
            for it in found
            if not any(part.startswith((".", "_")) for part in it.path.split("/"))
        ]
        log.info("%s: %d objects, %d bytes.", self.where, len(files), sum(it.size or 0 for it in files))
        return files

    def open(self, path: str) -> BufferedReader:
        """Opens one of them; it is fetched ahead, and raises `ReadingStopped` once reading is to stop."""
        return self._source.open(path)
