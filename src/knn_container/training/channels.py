"""The channels of a training job: which files or pipes there are, and the rows in them."""

import gzip
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from knn_container import cpu
from knn_container.batch import Batch
from knn_container.errors import FormatError, ReadingStopped, UserError
from knn_container.formats import csv, framing, mediatype, recordio
from knn_container.formats.mediatype import MediaType
from knn_container.training.readahead import ReadAhead

log = logging.getLogger(__name__)

_GZIP = b"\x1f\x8b"
_BUFFER = 1 << 20
# Of sparse int32 tensors key and value take 10 bytes each; nobody writes numbers of more than 32 characters.
_NUMBER_BYTES = {mediatype.RECORDIO: 20, mediatype.CSV: 32}
_END = 1 << 16  # bytes at either end of a file by which it is known
_PIPE_WAIT = 0.1  # seconds between looks for a pipe that is not there yet

Open = Callable[[Path], BufferedReader]
Decode = Callable[[BinaryIO, int, int | None, int], Iterator[Batch]]
FULLY_REPLICATED, SHARDED = "FullyReplicated", "ShardedByS3Key"


@dataclass(frozen=True)
class File:
    """One of the files of a channel, as one host sees it.

    Attributes:
        path: below the channel.
        size: in bytes; None of a pipe, which has no end that could be known.
        mark: equal for equal files, as far as that can be told quickly.
    """

    path: str
    size: int | None
    mark: str = ""


class Source(Protocol):
    """Where the bytes of a channel come from."""

    @property
    def where(self) -> str:
        """Its place, for people."""

    def list(self, *, marked: bool) -> list[File]:
        """The files that there are, in bytewise order of their paths; `marked` asks for their marks."""

    def open(self, path: str) -> BufferedReader:
        """Opens one of them; it is read ahead while its rows are made."""


@dataclass(frozen=True)
class Folder:
    """Files below a folder, whole (File mode) or fetched as they are read (FastFile mode).

    Attributes:
        folder: where they are; it is only read.
        open_file: opens one.
    """

    folder: Path
    open_file: Open

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

    def list(self, *, marked: bool) -> list[File]:
        """The files below the folder; names that begin with `.` or `_` are left out."""
        found = [
            (Path(folder) / name).relative_to(self.folder).as_posix()
            for folder, _, names in os.walk(self.folder, followlinks=True)
            for name in names
        ]
        visible = [path for path in found if not any(part.startswith((".", "_")) for part in path.split("/"))]
        return [self._describe(path, marked) for path in sorted(visible, key=os.fsencode)]

    def _describe(self, path: str, marked: bool) -> File:
        size = (self.folder / path).stat().st_size
        return File(path, size, self._ends(path, size) if marked else "")

    def _ends(self, path: str, size: int) -> str:
        """A hash of a file's first and last bytes; empty where reading is to stop, and nobody will read the file."""
        with suppress(ReadingStopped), self.open_file(self.folder / path) as file:
            digest = blake2b(file.read(_END), digest_size=16)
            if size > _END:
                file.seek(max(_END, size - _END))
                digest.update(file.read(_END))
            return digest.hexdigest()
        return ""

    def open(self, path: str) -> BufferedReader:
        """Opens one of them."""
        stream = self.open_file(self.folder / path)
        # Where one CPU has to do both, the kernel's own reading ahead is enough: measured, two thirds of the time.
        return _ahead(stream) if cpu.budget() > 1 else stream


@dataclass(frozen=True)
class Pipe:
    """A named pipe, through which the platform sends the channel's objects one after another.

    Attributes:
        pipe: of the first epoch, the only one that is read; it may not be there yet.
        open_file: opens it.
    """

    pipe: Path
    open_file: Open

    @property
    def where(self) -> str:
        """The pipe."""
        return str(self.pipe)

    def list(self, *, marked: bool) -> list[File]:  # noqa: ARG002 (a pipe cannot be looked into)
        """The pipe."""
        return [File(self.pipe.name, None)]

    def open(self, path: str) -> BufferedReader:
        """Waits for the pipe to be there."""
        pipe = self.pipe.with_name(path)
        if not pipe.exists():
            log.info("Waiting for the pipe %s...", pipe)
        while True:
            try:
                return _ahead(self.open_file(pipe))
            except FileNotFoundError:
                time.sleep(_PIPE_WAIT)


@dataclass(frozen=True)
class Channel:
    """Where rows come from.

    Attributes:
        name: `train` or `test`.
        source: of the bytes.
        decode: makes rows of a file's bytes, given rows in a batch, features in a row, and threads.
        number_bytes: what one number of a row takes at most.
        distribution: `FullyReplicated` where every host sees the same files, `ShardedByS3Key` where each has its own;
            None where nobody has said.
        readers: files that are best read side by side at least, however few CPUs there are.
    """

    name: str
    source: Source
    decode: Decode
    number_bytes: int
    distribution: str | None = None
    readers: int = 1

    @property
    def is_pipe(self) -> bool:
        """Whether the borders of files cannot be seen."""
        return isinstance(self.source, Pipe)

    def files(self, *, marked: bool = False) -> list[File]:
        """What there is to read, in data order."""
        return self.source.list(marked=marked)

    def batches(self, path: str, batch_size: int, width: int | None, threads: int = 1) -> Iterator[Batch]:
        """Reads one of the files; one that gzip has packed is unpacked on the way.

        Args:
            path: as `files` has it.
            batch_size: rows in a batch.
            width: features in a row; None takes the first row's.
            threads: that parse CSV side by side.

        Raises:
            UserError: names the file and the row that cannot be read.
        """
        with _located(self.name, path), self.source.open(path) as stream:
            yield from self.decode(stream if self.is_pipe else _unpacked(stream), batch_size, width, threads)


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


def _ahead(stream: BufferedReader) -> BufferedReader:
    return BufferedReader(ReadAhead(stream), _BUFFER)


def _open(path: Path) -> BufferedReader:
    return BufferedReader(FileIO(path), _BUFFER)


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
    content_type = mediatype.parse(config.get("ContentType") or mediatype.RECORDIO)
    decode, number_bytes = _decoder(name, content_type), _NUMBER_BYTES[content_type.name]
    if config.get("RecordWrapperType") == "RecordIO":
        decode = _unwrapping(decode)
    distribution = config.get("S3DistributionType")
    if distribution not in (FULLY_REPLICATED, SHARDED, None):
        raise UserError(
            f"Channel {name!r}: expected the S3DistributionType {FULLY_REPLICATED} or {SHARDED}, {distribution!r} came."
        )
    match config.get("TrainingInputMode") or "File":
        case "File" | "FastFile":
            return Channel(name, Folder(folder, open_file), decode, number_bytes, distribution)
        case "Pipe":
            return Channel(
                name, Pipe(folder.with_name(f"{folder.name}_0"), open_file), decode, number_bytes, distribution
            )
        case mode:
            raise UserError(f"Channel {name!r}: expected the input mode File, FastFile or Pipe, {mode!r} came.")


def _decoder(channel: str, content_type: MediaType) -> Decode:
    if content_type.name == mediatype.RECORDIO:
        return lambda stream, batch_size, width, _threads: recordio.read_batches(stream, batch_size, width)
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
    return partial(csv.read_batches, encoding=encoding)


def _unwrapping(decode: Decode) -> Decode:
    """Reads streams in which each record is a whole file (`RecordWrapperType=RecordIO`)."""

    def unwrap(stream: BinaryIO, batch_size: int, width: int | None, _threads: int) -> Iterator[Batch]:
        for number, file in enumerate(framing.read_payloads(stream), 1):
            try:
                for batch in decode(BytesIO(file), batch_size, width, 1):
                    width = batch.features.shape[1]
                    yield batch
            except FormatError as error:
                raise FormatError(f"in the wrapped file {number}, {error}") from error

    return unwrap
