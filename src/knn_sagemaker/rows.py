"""Files of rows, checked before they are uploaded, as the container would check them when it is paid for."""

import gzip
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import finite_float32
from knn_container.errors import FormatError
from knn_container.formats import csv, framing, mediatype, recordio
from knn_sagemaker.errors import Mistake

BLOCK = 5000  # rows at a time
_NUMBERS = 1 << 20  # that are encoded at a time
SUFFIXES = {
    ".csv": mediatype.CSV,
    ".json": mediatype.JSON,
    ".jsonl": mediatype.JSONLINES,
    ".npy": mediatype.RECORDIO,
    ".pbr": mediatype.RECORDIO,
    ".recordio": mediatype.RECORDIO,
}


@dataclass(frozen=True)
class Rows:
    """A file that is ready to be uploaded.

    Attributes:
        body: at its beginning.
        size: in bytes.
        name: under which it is stored.
        content_type: what a channel of it says.
        count: of rows.
    """

    body: IO[bytes]
    size: int
    name: str
    content_type: str
    count: int


def content_type(path: Path) -> str:
    """Knows a file by its suffix.

    Raises:
        Mistake: it is another.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix not in SUFFIXES:
        raise Mistake(f"{path.name}: expected a file that ends in {', '.join(SUFFIXES)}, maybe with .gz behind it.")
    return SUFFIXES[suffix]


@contextmanager
def open_rows(path: Path, labels: Path | None, *, labelled: bool) -> Iterator[Rows]:
    """Reads a whole file, and gives what is to be uploaded: the file, or a numpy array as records.

    Args:
        path: the file.
        labels: of a numpy array, in a file of their own; without it they are the first column.
        labelled: whether there are labels, as training needs them and a batch transform does not.

    Raises:
        Mistake: it cannot be read, or is not what its name says.
    """
    kind = content_type(path)
    if labels is not None and path.suffix != ".npy":
        raise Mistake("--labels: only a numpy array has its labels in a file of their own.")
    if kind == mediatype.JSON or (labelled and kind == mediatype.JSONLINES):
        raise Mistake(f"{path.name}: expected CSV, RecordIO or a numpy array; a channel holds no JSON.")
    with ExitStack() as stack:
        try:
            if path.suffix == ".npy":
                body, count = _records(stack, path, labels, labelled=labelled)
                name = f"{path.stem}.pbr"
            else:
                with _unpacked(path) as stream:
                    count = _count(stream, kind, labelled=labelled)
                # The container and this program tell formats by these two names.
                name = path.name.replace(".recordio", ".pbr")
                body = stack.enter_context(path.open("rb"))
        except (OSError, EOFError, gzip.BadGzipFile) as error:
            raise Mistake(f"{path}: {error}") from error
        except FormatError as error:
            raise Mistake(f"{path}: {error}.") from error
        if count == 0:
            raise Mistake(f"{path}: expected at least one row, there is none.")
        size = body.seek(0, 2)
        body.seek(0)
        yield Rows(body, size, name, _channel_type(kind, labelled=labelled), count)


def _channel_type(kind: str, *, labelled: bool) -> str:
    return f"{kind};label_size=1" if labelled and kind == mediatype.CSV else kind


def _unpacked(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _count(stream: BinaryIO, kind: str, *, labelled: bool) -> int:
    """Reads to the end, and counts rows."""
    if labelled:
        read = csv.read_batches if kind == mediatype.CSV else recordio.read_batches
        return sum(len(batch.labels) for batch in read(stream, BLOCK, None))
    if kind == mediatype.RECORDIO:
        return sum(1 for _ in framing.read_payloads(stream))
    if kind == mediatype.JSONLINES:
        return sum(bool(line.strip()) for line in stream)
    return _count_csv(stream)


def _count_csv(stream: BinaryIO) -> int:
    count, width = 0, 0
    while lines := [line for line in islice(stream, BLOCK) if line.strip()]:
        width = width or lines[0].count(b",") + 1
        try:
            csv.decode_request(b"".join(lines), width)
        except FormatError as error:
            raise FormatError(error.reason, None if error.row is None else count + error.row) from error
        count += len(lines)
    return count


def _records(stack: ExitStack, path: Path, labels: Path | None, *, labelled: bool) -> tuple[IO[bytes], int]:
    """Writes an array as records into a file that vanishes with this process."""
    rows = _load(path, 2)
    answers: NDArray[Any] | None = None
    if labels is not None:
        answers = _load(labels, 1)
        if len(answers) != len(rows):
            raise Mistake(f"{labels}: expected {len(rows)} labels, one for each row; {len(answers)} came.")
    elif labelled:
        rows, answers = rows[:, 1:], rows[:, 0]
    if rows.shape[1] == 0:
        raise Mistake(f"{path}: expected at least one feature beside the label.")
    body = stack.enter_context(TemporaryFile())  # noqa: SIM115 (the stack closes it)
    for block in blocks(rows, answers):
        body.write(block)
    return body, len(rows)


def blocks(rows: NDArray[Any], labels: NDArray[Any] | None) -> Iterator[bytes]:
    """Encodes rows, some at a time.

    Args:
        rows: (n, d) numbers; they become float32, as the container holds them.
        labels: (n,) numbers; whole ones become float64, so that large ones stay exact.

    Raises:
        FormatError: a number that is not finite.
    """
    size = max(1, min(BLOCK, _NUMBERS // rows.shape[1]))
    for start in range(0, len(rows), size):
        features = finite_float32(rows[start : start + size], start + 1)
        answers: NDArray[np.floating] | None = None
        if labels is not None:
            given = labels[start : start + size]
            answers = given.astype(np.float32) if given.dtype == np.float32 else given.astype(np.float64)
            if not np.isfinite(answers).all():
                raise FormatError("expected a finite label", start + 1 + int(np.argmin(np.isfinite(answers))))
        yield recordio.encode(features, answers)


def load_rows(path: Path) -> NDArray[Any]:
    """Loads rows without labels: one, or many.

    Raises:
        Mistake: there are none in it.
    """
    return np.atleast_2d(_load(path, 1, 2))


def _load(path: Path, *dimensions: int) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise Mistake(f"{path}: expected an array that numpy.save wrote, without Python objects: {error}") from error
    if array.ndim not in dimensions or array.dtype.kind not in "fiub":
        wanted = " or ".join(map(str, dimensions))
        raise Mistake(f"{path}: expected {wanted} dimensions of numbers, {array.ndim} of {array.dtype} came.")
    return cast("NDArray[Any]", array)
