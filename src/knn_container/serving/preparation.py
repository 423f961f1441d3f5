"""The model of all server processes: what it takes to have it whole is done by one of them.

This module imports no more than it needs: the check begins while the other imports go on.
"""

import hashlib
import json
import mmap
import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from knn_container import checksums
from knn_container.errors import ArtifactError
from knn_container.locks import ProcessLock
from knn_container.s3.location import Location

ARCHIVE = "model.tar.gz"
_MANIFEST = "manifest.json"  # as `artifact` has it, which is slow to import


def is_packed(folder: Path) -> bool:
    """Whether a folder holds a model's archive in place of the model."""
    return not (folder / _MANIFEST).exists() and (folder / ARCHIVE).is_file()


class Preparation:
    """Fetches or unpacks the model, and checks its files; to be made before the processes fork.

    Args:
        folder: where the model is, unpacked or as `model.tar.gz`.
        location: where it comes from, in place of the folder.

    Attributes:
        location: as it was given.
        one_at_a_time: for work whose timing decides something, which another process would disturb.
    """

    def __init__(self, folder: Path, location: Location | None = None) -> None:
        self.location = location
        self._folder = folder
        self._shared = Path(mkdtemp(prefix="model-")) if location or is_packed(folder) else None
        self._lock = ProcessLock()
        self.one_at_a_time = ProcessLock()
        self._whole = mmap.mmap(-1, hashlib.sha256().digest_size)  # what was found to be so

    def begin(self) -> None:
        """Begins to check the model in the background; whether it is whole is told by `check`."""
        if self._shared is None:
            threading.Thread(target=self._check_early, name="checking the model", daemon=True).start()

    def _check_early(self) -> None:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # told by those who load it
            self.check(self._folder, json.loads((self._folder / _MANIFEST).read_bytes())["files"])

    def bring(self) -> Path:
        """Gives the model's folder, once the model has been fetched or unpacked by this process or another.

        Raises:
            ArtifactError: the archive cannot be unpacked.
            UserError, PlatformError: as `fetching.fetch`.
        """
        if self._shared is None:
            return self._folder
        from knn_container.serving import fetching  # noqa: PLC0415

        if self.location:
            return fetching.fetch(self.location, self._shared)
        return fetching.unpack(self._folder / ARCHIVE, self._shared)

    def check(self, folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
        """As `checksums.check`; files that another process has found whole are not read again.

        Raises:
            ArtifactError: a file is missing or another.
        """
        with self._lock():
            state = self._state(folder, files)
            if self._whole[:] != state:
                checksums.check(folder, files)
                if self._state(folder, files) != state:
                    raise ArtifactError("the model's files changed while they were read. Start the server again.")
                self._whole[:] = state

    @staticmethod
    def _state(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> bytes:
        promised = repr(sorted((name, sorted(described.items())) for name, described in files.items()))
        return hashlib.sha256(checksums.signature(folder) + promised.encode()).digest()

    def clean(self) -> None:
        """Removes what `bring` has left; the processes are to have ended."""
        if self._shared:
            shutil.rmtree(self._shared, ignore_errors=True)
