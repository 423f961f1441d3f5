"""`text/csv`: one row a line, comma-separated numbers, no header."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from csv import Error as CsvError
from csv import reader
from io import BytesIO, TextIOWrapper
from itertools import islice
from typing import BinaryIO

import numpy as np
import orjson

from knn_container.batch import Batch, Column, Float32Array, Float64Array, check_labels, check_width, finite_float32
from knn_container.errors import FormatError, ReadingStopped
from knn_container.formats import plain_numbers

NumberedLines = list[tuple[int, str]]


def read_batches(
    stream: BinaryIO, batch_size: int, width: int | None, threads: int = 1, *, encoding: str = "utf-8"
) -> Iterator[Batch]:
    """Reads rows whose first column is the label, at most `batch_size` at a time.

    Args:
        stream: text up to its end; blank lines are passed over.
        batch_size: rows in a batch; a batch of a mebibyte is full before.
        width: features in a row; None takes the first row's.
        threads: that parse blocks side by side.
        encoding: the text's, by a name that Python knows.

    Raises:
        FormatError: text that is not numbers, or a row of another width; rows count from 1, one for each line.
    """
    if not _extends_ascii(encoding):
        yield from _read_lines(stream, batch_size, width, encoding, 1)
        return
    line = 1
    for block, table in plain_numbers.tables(stream, threads):
        if table is None or table.shape[1] < 2 or (width is not None and table.shape[1] != width + 1):
            batches, lines = _read_lines(BytesIO(block), batch_size, width, encoding, line), len(block.splitlines())
        else:
            batches, lines = _cut(table, batch_size, line), len(table)
        for batch in batches:
            yield batch
            width = batch.features.shape[1]
        line += lines


def _extends_ascii(encoding: str) -> bool:
    try:
        return all(text.encode(encoding) == text.encode() for text in ("0123456789+-.eE,", "\r", "\n"))
    except (LookupError, ValueError):
        return False


def _cut(table: Float64Array, batch_size: int, first_row: int) -> Iterator[Batch]:
    for start in range(0, len(table), batch_size):
        rows = table[start : start + batch_size]
        check_labels(labels := rows[:, 0].copy(), first_row + start)
        yield Batch(finite_float32(rows[:, 1:], first_row + start), labels)


def _read_lines(
    stream: BinaryIO, batch_size: int, width: int | None, encoding: str, first_line: int
) -> Iterator[Batch]:
    lines = _numbered_lines(stream, encoding, first_line)
    while block := list(islice(lines, batch_size)):
        table = _decode(block, width, label_size=1)
        with _rows_numbered(block):
            check_labels(labels := table[:, 0].copy(), 0)
            batch = Batch(finite_float32(table[:, 1:], 0), labels)
        yield batch
        width = batch.features.shape[1]


def decode_request(body: bytes, width: int, *, label_size: int = 0, encoding: str = "utf-8") -> Float32Array:
    """Decodes a request's rows.

    Args:
        body: the whole request.
        width: features in a row.
        label_size: columns in front of the features, which are dropped.
        encoding: the text's.

    Returns:
        (n, width) features.

    Raises:
        FormatError: as `read_batches`.
    """
    if _extends_ascii(encoding):
        rows = _decode_plain(body, width, label_size)
        if rows is not None:
            return rows
    block = list(_numbered_lines(BytesIO(body), encoding))
    if not block:
        raise FormatError("expected at least one row of numbers, an empty body came")
    table = _decode(block, width, label_size)
    with _rows_numbered(block):
        return finite_float32(table[:, label_size:], 0)


def _decode_plain(body: bytes, width: int, label_size: int) -> Float32Array | None:
    """Decodes a request of plain numbers alone; None of any other, or where a row is wrong."""
    parts = []
    for block in [body] if len(body) < plain_numbers.BLOCK else plain_numbers.blocks(BytesIO(body)):
        table = plain_numbers.decode(block)
        if table is None or table.shape[1] != width + label_size:
            return None
        try:
            parts.append(finite_float32(table[:, label_size:], 1))
        except FormatError:
            return None
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def encode(columns: Sequence[Column]) -> bytes:
    """Writes one line a row; numbers in their shortest exact form, text in quotes.

    Args:
        columns: one number, or one array or list, for every row; a row's are written side by side.
    """
    return b"".join(b",".join(map(_cells, row)) + b"\n" for row in zip(*columns, strict=True))


def _cells(value: object) -> bytes:
    if isinstance(value, list):
        return ",".join('"{}"'.format(text.replace('"', '""')) for text in value).encode()
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return text[1:-1] if text.startswith(b"[") else text


def _numbered_lines(stream: BinaryIO, encoding: str, first_line: int = 1) -> Iterator[tuple[int, str]]:
    number = first_line - 1
    text = _decoded(stream, encoding)
    try:
        with suppress(ReadingStopped):
            for number, line in enumerate(text, first_line):
                if not line.isspace():
                    yield number, line
    except UnicodeDecodeError as error:
        # The codec met it some lines further on, in a block that has given no line yet.
        number += 1 + error.object[: error.start].count(b"\n")
        raise FormatError(f"the text is not {encoding}: {error.reason}", number) from error
    except UnicodeError as error:
        raise FormatError(f"the text is not {encoding}: {error}") from error
    finally:
        if not stream.closed:
            text.detach()  # the stream is its opener's to close


def _decoded(stream: BinaryIO, encoding: str) -> TextIOWrapper:
    try:
        return TextIOWrapper(stream, encoding="utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except (LookupError, ValueError) as error:
        raise FormatError(f"the encoding {encoding!r} cannot be read: {error}") from error


def _decode(block: NumberedLines, width: int | None, label_size: int) -> Float64Array:
    lines = [line for _, line in block]
    try:
        table = np.loadtxt(lines, dtype=np.float64, delimiter=",", comments=None, quotechar='"', ndmin=2)
        if len(table) != len(lines):
            raise ValueError("a quoted cell goes on in the next line")
        if width is not None and table.shape[1] != width + label_size:
            raise ValueError(f"{table.shape[1]} columns came")
        if table.shape[1] <= label_size:
            raise ValueError("there are no features")
    except ValueError as error:
        raise _explain(block, width, label_size, error) from error
    return table


@contextmanager
def _rows_numbered(block: NumberedLines) -> Iterator[None]:
    """Turns a place in the block into the line's number: lines can be blank."""
    try:
        yield
    except FormatError as error:
        raise FormatError(error.reason, block[error.row or 0][0]) from None


def _explain(block: NumberedLines, width: int | None, label_size: int, cause: ValueError) -> FormatError:
    """Finds the row that the fast parser refused."""
    for number, line in block:
        try:
            cells = next(reader([line]))
        except CsvError as error:
            return FormatError(f"the row cannot be read: {error}", number)
        for column, cell in enumerate(cells, 1):
            if not _is_number(cell):
                header = "; a header line is not allowed" if number == 1 else ""
                return FormatError(f"column {column} is {cell.strip()[:40]!r}, expected a number{header}", number)
        if len(cells) <= label_size:
            return FormatError(
                f"expected {label_size} label columns and at least one feature, {len(cells)} columns came", number
            )
        width = len(cells) - label_size if width is None else width
        try:
            check_width(len(cells) - label_size, width, number)
        except FormatError as error:
            return error
    return FormatError(f"the rows cannot be read as numbers: {cause}", block[0][0])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    # Python takes more for a number than the parser of the fast path.
    return cell.isascii() and "_" not in cell
