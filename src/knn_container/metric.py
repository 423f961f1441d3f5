"""How near two rows are: one arithmetic for every index, engine and batch size.

Rows and queries are float32; what is computed of them is computed in float64 and rounded once to float32. Rounded
values that are equal are ties, and the lower row number comes first.
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import Float32Array, Float64Array

_LARGEST = float(np.finfo(np.float32).max)


class Metric(StrEnum):
    """The built-in algorithm's `index_metric`.

    L2 is the squared Euclidean distance, INNER_PRODUCT and COSINE are similarities; a zero vector has the cosine
    similarity 0 to everything.
    """

    L2 = "L2"
    INNER_PRODUCT = "INNER_PRODUCT"
    COSINE = "COSINE"

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
        near = queries[:, np.newaxis, :]
        # Sums run over the last axis of contiguous arrays, where numpy's order depends on d alone: a query's values
        # must not depend on the queries beside it.
        if self is Metric.L2:
            values = _sum_over_columns(np.square(np.subtract(rows, near, dtype=np.float64)))
        else:
            values = _sum_over_columns(np.multiply(rows, near, dtype=np.float64))
        if self is Metric.COSINE:
            lengths = row_lengths(rows) * row_lengths(near)
            values = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
        # Adding zero turns -0.0 into 0.0.
        return (np.clip(values, -_LARGEST, _LARGEST) + 0.0).astype(np.float32)


def row_lengths(rows: Float32Array) -> Float64Array:
    """Euclidean lengths over the last axis, in float64."""
    return np.sqrt(_sum_over_columns(np.square(rows, dtype=np.float64)))


def unit_rows(rows: Float32Array) -> Float32Array:
    """Scales (n, d) rows to length 1, computed in float64 and rounded once; zero rows stay zero."""
    lengths = row_lengths(rows)[:, np.newaxis]
    return np.divide(rows, lengths, out=np.zeros(rows.shape), where=lengths > 0).astype(np.float32)


def _sum_over_columns(values: Float64Array) -> Float64Array:
    return np.asarray(np.ascontiguousarray(values).sum(axis=-1))


def nearest(
    metric: Metric, values: Float32Array, rows: NDArray[np.int64], k: int
) -> tuple[Float32Array, NDArray[np.int64]]:
    """Orders candidates from the nearest on and keeps k.

    Args:
        metric: says whether small or large values are near.
        values: (n, m) as `Metric.between` gives them.
        rows: (n, m) row numbers, -1 for none.
        k: how many to keep, at most m.

    Returns:
        (n, k) values and (n, k) row numbers; the rows -1 come last.
    """
    keys = np.where(rows >= 0, -values if metric.is_similarity else values, np.float32(np.inf))
    order = np.lexsort((rows, keys), axis=-1)[:, :k]
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(rows, order, axis=1)
