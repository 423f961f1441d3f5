"""A training job as SageMaker lays it out below `/opt/ml`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knn_container import artifact, hyperparameters
from knn_container.errors import TrainingError, UserError
from knn_container.hyperparameters import Hyperparameters
from knn_container.s3.transfer import Output
from knn_container.training.channels import Channel, open_channel
from knn_container.training.objects import Store
from knn_container.training.publishing import Destination
from knn_container.training.stopping import Stopper

_FAILURE_LENGTH = 1023  # SageMaker shows the first 1,024 characters


@dataclass(frozen=True)
class Job:
    """What the job is to do.

    Attributes:
        host: this host's name.
        hosts: the names of all hosts, sorted; the first leads.
        hyperparameters: checked.
        given: the hyperparameters as they came.
        channels: `train`, which is sampled, and maybe `test`, which is scored.
        destination: in S3, of the results; None where they stay on the disk.
    """

    host: str
    hosts: tuple[str, ...]
    hyperparameters: Hyperparameters
    given: dict[str, str]
    channels: dict[str, Channel]
    destination: Destination | None


@dataclass(frozen=True)
class Folders:
    """Where a job's files are, below `base`."""

    base: Path

    @property
    def config(self) -> Path:
        """The platform's JSON files."""
        return self.base / "input" / "config"

    @property
    def data(self) -> Path:
        """One folder a channel."""
        return self.base / "input" / "data"

    @property
    def model(self) -> Path:
        """The model."""
        return self.base / "model"

    @property
    def archive(self) -> Path:
        """The model, packed."""
        return self.base / "output" / "model.tar.gz"

    @property
    def report(self) -> Path:
        """What else the job leaves; SageMaker packs it as `output.tar.gz`."""
        return self.base / "output" / "data"

    @property
    def report_archive(self) -> Path:
        """The report, packed for S3."""
        return self.base / "output" / "output.tar.gz"

    @property
    def failure(self) -> Path:
        """Why the job failed."""
        return self.base / "output" / "failure"


def read(folders: Folders, stop: Stopper, *, publish: bool) -> Job:
    """Reads `hyperparameters.json`, `inputdataconfig.json`, `resourceconfig.json` and `outputdataconfig.json`.

    All but the first may be missing, as where a person runs the container: the channels are then the folders below
    `input/data`.

    Args:
        folders: where the job is.
        stop: ends the reading of the channels early.
        publish: whether the job uploads its results itself, if it is told where to.

    Raises:
        UserError: names every mistake in the hyperparameters, or the channel that is missing or cannot be read.
    """
    given = _read_json(folders.config / "hyperparameters.json")
    if given is None:
        raise UserError(f"{folders.config / 'hyperparameters.json'} does not exist: it holds the hyperparameters.")
    checked = hyperparameters.parse(given)
    channels = _read_json(folders.config / "inputdataconfig.json")
    if channels is None:
        channels = {name: {} for name in ("train", "test") if (folders.data / name).is_dir()}
    if "train" not in channels:
        raise UserError(f"Missing required channel: train. Channels that came: {', '.join(channels) or 'none'}.")
    for name, entry in channels.items():
        if entry is not None and not isinstance(entry, dict):
            raise UserError(f"inputdataconfig.json: expected an object for the channel {name!r}, {entry!r} came.")
    host, hosts = _read_hosts(folders)
    store = Store(stop, hosts.index(host), len(hosts))
    return Job(
        host=host,
        hosts=hosts,
        hyperparameters=checked,
        given={name: str(value) for name, value in sorted(given.items())},
        channels={
            name: _open_channel(name, channels[name] or {}, folders, stop, store)
            for name in ("train", "test")
            if name in channels
        },
        destination=_read_destination(folders, store) if publish else None,
    )


def _open_channel(name: str, entry: dict[str, Any], folders: Folders, stop: Stopper, store: Store) -> Channel:
    """Makes a channel of what the platform stages, or of the objects that its `DataSource` names."""
    if entry.get("DataSource") is None:
        return open_channel(name, entry, folders.data / name, stop.open)
    entry = entry | {"RecordWrapperType": None}  # the platform wraps, S3 does not
    return store.fill(open_channel(name, entry, folders.data / name, stop.open), entry)


def _read_destination(folders: Folders, store: Store) -> Destination | None:
    path = folders.config / "outputdataconfig.json"
    try:
        output = Output.read(_read_json(path) or {})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Destination(store.client, output) if output else None


def _read_hosts(folders: Folders) -> tuple[str, tuple[str, ...]]:
    """This host's name and, sorted, those of all."""
    path = folders.config / "resourceconfig.json"
    resources = _read_json(path) or {}
    host = resources.get("current_host", "algo-1")
    hosts = resources.get("hosts") or [host]
    if not isinstance(hosts, list) or not all(isinstance(name, str) for name in [host, *hosts]):
        raise UserError(f"{path}: expected the names of the hosts as text, {hosts!r} and {host!r} came.")
    if host not in hosts:
        raise UserError(f"{path}: expected current_host to be one of the hosts {', '.join(hosts)}, {host!r} came.")
    return host, tuple(sorted(set(hosts)))


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a JSON object, {type(document).__name__} came.")
    return document


def write_failure(folders: Folders, error: TrainingError) -> None:
    """Writes the failure file, with what to mend first if not all fits.

    Raises:
        OSError: it cannot be written.
    """
    text = f"{error.label}: {error}"
    if len(text) > _FAILURE_LENGTH:
        text = text[: _FAILURE_LENGTH - 20] + " … (more in the log)"
    folders.failure.parent.mkdir(parents=True, exist_ok=True)
    folders.failure.write_text(text)


def clear(folders: Folders) -> None:
    """Removes what an earlier job left, so that a failure cannot be taken for a success."""
    folders.failure.unlink(missing_ok=True)
    folders.archive.unlink(missing_ok=True)
    folders.report_archive.unlink(missing_ok=True)
    artifact.remove(folders.model)
