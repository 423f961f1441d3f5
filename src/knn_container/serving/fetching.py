"""A model that is packed or in S3: unpacked or fetched once for all server processes."""

import fcntl
import logging
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from knn_container import archive
from knn_container.errors import ArtifactError
from knn_container.s3.client import connect
from knn_container.s3.location import Location
from knn_container.s3.transfer import download

log = logging.getLogger(__name__)


def fetch(location: Location, shared: Path) -> Path:
    """Fetches and unpacks a model, unless another process has done so or is at it.

    Args:
        location: of its archive.
        shared: a folder that all processes have, which holds the model from then on.

    Returns:
        The model's folder, which is whole.

    Raises:
        ArtifactError: the archive cannot be unpacked.
        UserError: credentials, permissions or names are not right.
        PlatformError: S3 does not answer, what comes is damaged, or the disk has no room.
    """
    return _once(shared, lambda work: _fetch(location, work))


def unpack(packed: Path, shared: Path) -> Path:
    """Unpacks a model, unless another process has done so or is at it.

    Args:
        packed: its archive.
        shared: as for `fetch`.

    Returns:
        The model's folder, which is whole.

    Raises:
        ArtifactError: the archive cannot be unpacked.
    """
    return _once(shared, lambda work: archive.unpack(packed, work / "model"))


def _once(shared: Path, make: Callable[[Path], None]) -> Path:
    model, work = shared / "model", shared / "work"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back with the process at the latest
        if not model.exists():
            shutil.rmtree(work, ignore_errors=True)
            try:
                (work / "model").mkdir(parents=True)
                make(work)
                (work / "model").rename(model)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return model


def _fetch(location: Location, work: Path) -> None:
    (work / "archive").mkdir()
    log.info("Fetching %s...", location)
    with closing(connect()) as client:
        packed = download(client, location, work / "archive")
    log.info("...Fetched %d bytes.", packed.stat().st_size)
    try:
        archive.unpack(packed, work / "model")
    except ArtifactError as error:
        raise ArtifactError(f"{location}: {error}") from error
