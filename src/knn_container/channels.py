"""The channels of a training job: which files there are, and the rows in them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knn_container.batch import Batch
from knn_container.errors import FormatError, UserError
from knn_container.formats import csv, mediatype, recordio
from knn_container.formats.mediatype import MediaType


@dataclass(frozen=True)
class Channel:
    """One channel in File mode.

    Attributes:
        name: `train` or `test`.
        folder: where its files are.
        content_type: what they hold.
    """

    name: str
    folder: Path
    content_type: MediaType

    def files(self) -> list[str]:
        """The paths of the files below the folder, in bytewise order; hidden ones and those after `_` are left out.

        Raises:
            UserError: there are none.
        """
        found = [
            (Path(folder) / name).relative_to(self.folder).as_posix()
            for folder, _, names in os.walk(self.folder, followlinks=True)
            for name in names
        ]
        visible = [path for path in found if not any(part.startswith((".", "_")) for part in path.split("/"))]
        if not visible:
            raise UserError(f"The channel {self.name!r} has no files: {self.folder} is empty or does not exist.")
        return sorted(visible, key=os.fsencode)

    def batches(self, path: str, batch_size: int, width: int | None) -> Iterator[Batch]:
        """Reads one of the files.

        Args:
            path: as `files` gives it.
            batch_size: rows in a batch.
            width: features in a row; None takes the first row's.

        Raises:
            UserError: names the file and the row that cannot be read.
        """
        try:
            with (self.folder / path).open("rb", buffering=1 << 20) as stream:
                if self.content_type.name == mediatype.CSV:
                    encoding = self.content_type.parameters.get("charset", "utf-8")
                    yield from csv.read_batches(stream, batch_size, width, encoding=encoding)
                else:
                    yield from recordio.read_batches(stream, batch_size, width)
        except FormatError as error:
            raise UserError(f"Channel {self.name!r}, file {path!r}, {error}.") from error


def open_channel(name: str, config: Mapping[str, Any], folder: Path) -> Channel:
    """Makes a channel from its entry in `inputdataconfig.json`.

    Raises:
        UserError: an input mode or a content type that training does not read.
    """
    if (mode := config.get("TrainingInputMode", "File")) != "File":
        raise UserError(f"Channel {name!r}: the input mode {mode} is not available yet, expected File.")
    content_type = mediatype.parse(config.get("ContentType") or mediatype.RECORDIO)
    if content_type.name not in (mediatype.CSV, mediatype.RECORDIO):
        raise UserError(
            f"Channel {name!r}: expected the content type {mediatype.RECORDIO} or {mediatype.CSV}, {content_type} came."
        )
    label_size = content_type.parameters.get("label_size", "1")
    if content_type.name == mediatype.CSV and label_size != "1":
        raise UserError(
            f"Channel {name!r}: expected label_size=1, label_size={label_size} came; "
            "a row has one label, in its first column."
        )
    return Channel(name, folder, content_type)
