"""Rows as every reader gives them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from knn_container.errors import FormatError

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
IdArray = NDArray[np.int64 | np.str_]
# Of an answer: one number, or one array or list of text, for every row.
Column = Sequence[np.generic | NDArray[np.generic] | list[str]]
LabelArray = NDArray[np.float32 | np.float64 | np.int32 | np.int64]


@dataclass(frozen=True)
class SparseRows:
    """n rows of which only some columns are stored, the others being zero.

    Attributes:
        values: (m,) float32, row after row, all finite.
        columns: (m,) int64, each value's column.
        starts: (n + 1) int64, where each row begins in `values`.
        width: d.
    """

    values: Float32Array
    columns: Int64Array
    starts: Int64Array
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self), self.width

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, rows: Int64Array) -> "SparseRows":
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate(([0], np.cumsum(lengths)))
        stored = np.repeat(self.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1])
        return SparseRows(self.values[stored], self.columns[stored], starts, self.width)

    def dense(self) -> Float32Array:
        """Spreads the rows to (n, d)."""
        rows = np.zeros(self.shape, np.float32)
        rows[np.repeat(np.arange(len(self)), np.diff(self.starts)), self.columns] = self.values
        return rows

    @classmethod
    def of(cls, rows: Sequence[Float32Array], columns: Sequence[Sequence[int]], width: int) -> "SparseRows":
        """Joins rows, each given by its values and their columns."""
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
        joined = [np.fromiter(row, np.int64, len(row)) for row in columns]
        return cls(np.concatenate(rows).astype(np.float32), np.concatenate(joined), starts, width)


Features = Float32Array | SparseRows


@dataclass(frozen=True)
class Batch:
    """Consecutive labelled rows of one file.

    Attributes:
        features: (n, d), all finite.
        labels: (n,) in the type that the file gives them, all finite.
        uids: the rows' own names, where the file gives them; empty where it names none.
    """

    features: Features
    labels: LabelArray
    uids: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> "Batch":
        """Some of the rows, by their numbers in the batch."""
        rows = np.arange(start, stop)
        return Batch(self.features[rows], self.labels[start:stop], self.uids[start:stop])


def dense(features: Features) -> Float32Array:
    """The rows as (n, d) float32."""
    return features.dense() if isinstance(features, SparseRows) else features


def finite_float32(values: NDArray[np.floating | np.integer], first_row: int) -> Float32Array:
    """Rounds (n, d) numbers to float32.

    Raises:
        FormatError: a value is NaN, infinite or outside float32; rows count from `first_row`.
    """
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32, order="C", copy=False)
    if not np.isfinite(rounded).all():
        row, column = np.argwhere(~np.isfinite(rounded))[0]
        raise FormatError(
            f"feature {column + 1} is {values[row, column]}, expected a finite float32 number",
            first_row + int(row),
        )
    return rounded


def check_labels(labels: LabelArray, first_row: int) -> None:
    """Checks (n,) labels.

    Raises:
        FormatError: a label is NaN or infinite; rows count from `first_row`.
    """
    finite = np.isfinite(labels)
    if not finite.all():
        row = int(np.argmin(finite))
        raise FormatError(f"the label is {labels[row]}, expected a finite number", first_row + row)


def check_width(came: int, expected: int | None, row: int) -> None:
    """Checks one row's number of features.

    Raises:
        FormatError: another number was expected.
    """
    if expected is not None and came != expected:
        raise FormatError(f"expected {expected} features, {came} came", row)


def sparse_width(keys: Sequence[int], shape: Sequence[int], values: int, row: int) -> int:
    """Checks a sparse row and tells how many columns it has.

    Args:
        keys: the columns of its values, counted from 0.
        shape: (d) or, as SageMaker's Spark library writes it, (1, d).
        values: how many there are.
        row: the row's number, for errors.

    Raises:
        FormatError: no shape, that of several rows, keys and values that do not pair, or a key outside the shape.
    """
    if not shape:
        raise FormatError("the sparse tensor has keys but no shape", row)
    if len(shape) > 2 or (len(shape) == 2 and shape[0] != 1):
        raise FormatError(f"expected the shape of one row, {list(shape)} came", row)
    if len(keys) != values:
        raise FormatError(f"the sparse tensor has {len(keys)} keys and {values} values", row)
    if len(keys) and not 0 <= min(keys) <= max(keys) < shape[-1]:
        raise FormatError(f"a key of the sparse tensor is outside its {shape[-1]} columns", row)
    if len(set(keys)) != len(keys):
        raise FormatError("the sparse tensor has a key twice", row)
    return shape[-1]
