"""How near two rows are: one arithmetic for every index, engine and batch size.

Rows and queries are float32; what is computed of them is computed in float64 and rounded once to float32. Rounded
values that are equal are ties, and the lower row number comes first.
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from knn_container import kernels
from knn_container.batch import Float32Array, Float64Array

_LARGEST = float(np.finfo(np.float32).max)
_BELOW_ZERO, _ROW = (1 << 31) - 1, (1 << 32) - 1
_MISSING = int(np.float32(_LARGEST).view(np.int32)) << 32 | _ROW  # comes after every row


class Metric(StrEnum):
    """The built-in algorithm's `index_metric`.

    L2 is the squared Euclidean distance, INNER_PRODUCT and COSINE are similarities; a zero vector has the cosine
    similarity 0 to everything.
    """

    L2 = "L2"
    INNER_PRODUCT = "INNER_PRODUCT"
    COSINE = "COSINE"

    @property
    def number(self) -> int:
        """As `kernels` takes it."""
        return _NUMBERS[self]

    @property
    def is_similarity(self) -> bool:
        """Whether larger values are nearer."""
        return self is not Metric.L2

    def between(self, queries: Float32Array, rows: Float32Array) -> Float32Array:
        """Compares each query with rows of its own.

        Args:
            queries: (n, d).
            rows: (n, m, d), or (m, d) for the same rows to every query.

        Returns:
            (n, m) float32; what lies outside float32 becomes its largest number.
        """
        values = np.empty((len(queries), rows.shape[-2]), np.float32)
        kernels.compare(self.number, np.ascontiguousarray(queries), np.ascontiguousarray(rows), values)
        return values


_NUMBERS = {metric: number for number, metric in enumerate(Metric)}


def row_lengths(rows: Float32Array) -> Float64Array:
    """Euclidean lengths over the last axis, in float64."""
    return np.asarray(np.sqrt(np.add.reduce(np.square(rows, dtype=np.float64, order="C"), axis=-1)))


def unit_rows(rows: Float32Array) -> Float32Array:
    """Scales (n, d) rows to length 1, computed in float64 and rounded once; zero rows stay zero."""
    lengths = row_lengths(rows)[:, np.newaxis]
    return np.divide(rows, lengths, out=np.zeros(rows.shape), where=lengths > 0).astype(np.float32)


def nearest(
    metric: Metric, values: Float32Array, rows: NDArray[np.int64], k: int
) -> tuple[Float32Array, NDArray[np.int64]]:
    """Orders candidates from the nearest on and keeps k.

    Args:
        metric: says whether small or large values are near.
        values: (n, m) as `Metric.between` gives them: finite, without -0.0.
        rows: (n, m) row numbers below 2^32 - 1, -1 for none.
        k: how many to keep, at most m.

    Returns:
        (n, k) values and (n, k) row numbers; the rows -1 come last.
    """
    # One integer holds the order of a value, as the bits of a float32 have it, and below it that of its row.
    keys = (-values if metric.is_similarity else values).view(np.int32).astype(np.int64)
    keys ^= (keys >> 63) & _BELOW_ZERO
    keys <<= 32
    keys |= rows & _ROW
    keys[rows < 0] = _MISSING
    keys.sort(axis=1)
    chosen = keys[:, :k]
    order = (chosen >> 32).astype(np.int32)
    order ^= (order >> 31) & np.int32(_BELOW_ZERO)
    best = order.view(np.float32)
    return (-best if metric.is_similarity else best), np.where(chosen == _MISSING, -1, chosen & _ROW)
