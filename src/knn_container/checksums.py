"""Whether the files of a model are those that were written."""

import hashlib
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knn_container.errors import ArtifactError

TRAIN_AGAIN = "Train the model again, or copy it again from where it was made."
_PIECE = 1 << 24  # bytes: Python's lock is asked for seldom


def describe(path: Path) -> dict[str, Any]:
    """The size of a file in bytes and its SHA-256, as a manifest has them."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file, mmap.mmap(-1, _PIECE) as piece:
        piece.madvise(mmap.MADV_DONTFORK)  # a process forked meanwhile would keep a copy
        while count := file.readinto(piece):
            with memoryview(piece)[:count] as came:
                digest.update(came)
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": digest.hexdigest()}


def check(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks files against what a manifest promises.

    Args:
        folder: where they are.
        files: what `describe` gave for each, by name.

    Raises:
        ArtifactError: a file is missing or another.
    """
    for name, described in files.items():
        path, promised = folder / name, dict(described)
        if not path.is_file():
            raise ArtifactError(f"the model is not whole: {name} is missing. {TRAIN_AGAIN}")
        if (came := path.stat().st_size) != promised["bytes"]:
            raise ArtifactError(f"{name} is damaged: expected {promised['bytes']} bytes, {came} came. {TRAIN_AGAIN}")
        if describe(path) != promised:
            raise ArtifactError(f"{name} is damaged: its SHA-256 is not the manifest's. {TRAIN_AGAIN}")


def signature(folder: Path) -> bytes:
    """Tells this state of a folder's files from others, by their names, sizes, places and times: 32 bytes."""
    states = sorted((path.name, path.stat()) for path in folder.iterdir() if path.is_file())
    told = [(name, state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns) for name, state in states]
    return hashlib.sha256(repr(told).encode()).digest()
