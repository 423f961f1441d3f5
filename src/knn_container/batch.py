"""Rows as every reader gives them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knn_container.errors import FormatError

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
LabelArray = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Consecutive labelled rows of one file.

    Attributes:
        features: (n, d) float32, all finite.
        labels: (n,) in the type that the file gives them, all finite.
    """

    features: Float32Array
    labels: LabelArray

    def __len__(self) -> int:
        return len(self.features)


def finite_float32(values: NDArray[np.floating] | NDArray[np.integer], first_row: int) -> Float32Array:
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
