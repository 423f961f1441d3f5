"""The channels of a training job: which files or pipes there are, and the rows in them."""

import gzip
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from knn_container.batch import Batch
from knn_container.errors import FormatError, UserError
from knn_container.formats import csv, mediatype, recordio
from knn_container.formats.mediatype import MediaType

log = logging.getLogger(__name__)

_GZIP = b"\x1f\x8b"
_PIPE_WAIT = 0.1  # seconds between looks for a pipe that is not there yet

Open = Callable[[Path], BufferedReader]
Decode = Callable[[BinaryIO, int, int | None], Iterator[Batch]]


class Channel(Protocol):
    """Where rows come from."""

    @property
    def name(self) -> str:
        """`train` or `test`."""

    def files(self) -> list[str]:
        """The names of what there is to read, in data order.

        Raises:
            UserError: there is nothing.
        """

    def batches(self, file: str, batch_size: int, width: int | None) -> Iterator[Batch]:
        """Reads one of the files.

        Args:
            file: as `files` names it.
            batch_size: rows in a batch.
            width: features in a row; None takes the first row's.

        Raises:
            UserError: names the file and the row that cannot be read.
        """


@dataclass(frozen=True)
class FileChannel:
    """A folder of files, whole (File mode) or fetched as they are read (FastFile mode).

    Attributes:
        name: `train` or `test`.
        folder: where the files are; it is only read.
        decode: reads one of them.
        open_file: opens one.
    """

    name: str
    folder: Path
    decode: Decode
    open_file: Open

    def files(self) -> list[str]:
        """The paths below the folder in bytewise order; names that begin with `.` or `_` are left out."""
        found = [
            (Path(folder) / name).relative_to(self.folder).as_posix()
            for folder, _, names in os.walk(self.folder, followlinks=True)
            for name in names
        ]
        visible = [path for path in found if not any(part.startswith((".", "_")) for part in path.split("/"))]
        if not visible:
            raise UserError(f"The channel {self.name!r} has no files: {self.folder} is empty or does not exist.")
        return sorted(visible, key=os.fsencode)

    def batches(self, file: str, batch_size: int, width: int | None) -> Iterator[Batch]:
        """Reads one of the files; one that gzip has packed is unpacked on the way."""
        with _located(self.name, file), self.open_file(self.folder / file) as stream:
            yield from self.decode(_unpacked(stream), batch_size, width)


@dataclass(frozen=True)
class PipeChannel:
    """A named pipe, through which the platform sends the channel's objects one after another.

    Attributes:
        name: `train` or `test`.
        pipe: of the first epoch, the only one that is read; it may not be there yet.
        decode: reads it.
        open_file: opens it.
    """

    name: str
    pipe: Path
    decode: Decode
    open_file: Open

    def files(self) -> list[str]:
        """The pipe's name."""
        return [self.pipe.name]

    def batches(self, file: str, batch_size: int, width: int | None) -> Iterator[Batch]:
        """Waits for the pipe and reads it to its end."""
        with _located(self.name, file), self._open_late() as stream:
            yield from self.decode(stream, batch_size, width)

    def _open_late(self) -> BufferedReader:
        if not self.pipe.exists():
            log.info("Waiting for the pipe %s...", self.pipe)
        while True:
            try:
                return self.open_file(self.pipe)
            except FileNotFoundError:
                time.sleep(_PIPE_WAIT)


@contextmanager
def _located(channel: str, file: str) -> Iterator[None]:
    """Turns what is wrong with bytes into an error that says where they are."""
    try:
        yield
    except FormatError as error:
        raise UserError(f"Channel {channel!r}, file {file!r}, {error}.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"Channel {channel!r}, file {file!r}: expected a whole gzip file: {error}.") from error


def _unpacked(stream: BufferedReader) -> BinaryIO:
    return cast(BinaryIO, gzip.open(stream, "rb")) if stream.peek(2).startswith(_GZIP) else stream


def _open(path: Path) -> BufferedReader:
    return BufferedReader(FileIO(path), 1 << 20)


def open_channel(name: str, config: Mapping[str, Any], folder: Path, open_file: Open = _open) -> Channel:
    """Makes a channel from its entry in `inputdataconfig.json`.

    Args:
        name: the channel's.
        config: the entry.
        folder: where the platform puts the channel: the files, or beside it the pipes `<folder>_<epoch>`.
        open_file: opens files and pipes for reading; it may wait, and raise FileNotFoundError for a pipe to come.

    Raises:
        UserError: an input mode or a content type that training does not read.
    """
    decode = _decoder(name, mediatype.parse(config.get("ContentType") or mediatype.RECORDIO))
    if config.get("RecordWrapperType") == "RecordIO":
        decode = _unwrapping(decode)
    match config.get("TrainingInputMode") or "File":
        case "File" | "FastFile":
            return FileChannel(name, folder, decode, open_file)
        case "Pipe":
            return PipeChannel(name, folder.with_name(f"{folder.name}_0"), decode, open_file)
        case mode:
            raise UserError(f"Channel {name!r}: expected the input mode File, FastFile or Pipe, {mode!r} came.")


def _decoder(channel: str, content_type: MediaType) -> Decode:
    if content_type.name == mediatype.RECORDIO:
        return recordio.read_batches
    if content_type.name != mediatype.CSV:
        raise UserError(
            f"Channel {channel!r}: expected the content type {mediatype.RECORDIO} or {mediatype.CSV}, "
            f"{content_type} came."
        )
    if (label_size := content_type.parameters.get("label_size", "1")) != "1":
        raise UserError(
            f"Channel {channel!r}: expected label_size=1, label_size={label_size} came; "
            "a row has one label, in its first column."
        )
    encoding = content_type.parameters.get("charset", "utf-8")
    return lambda stream, batch_size, width: csv.read_batches(stream, batch_size, width, encoding=encoding)


def _unwrapping(decode: Decode) -> Decode:
    """Reads streams in which each record is a whole file (`RecordWrapperType=RecordIO`)."""

    def unwrap(stream: BinaryIO, batch_size: int, width: int | None) -> Iterator[Batch]:
        for number, file in enumerate(recordio.read_payloads(stream), 1):
            try:
                for batch in decode(BytesIO(file), batch_size, width):
                    width = batch.features.shape[1]
                    yield batch
            except FormatError as error:
                raise FormatError(f"in the wrapped file {number}, {error}") from error

    return unwrap
