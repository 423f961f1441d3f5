"""From the labels of neighbours to a prediction."""

from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import BoolArray, Float64Array, Int64Array, LabelArray
from knn_container.errors import UserError
from knn_container.metric import Metric

FloatArray = NDArray[np.float32 | np.float64]
FloatType = np.dtype[np.float32] | np.dtype[np.float64]


class Weights(StrEnum):
    """How much a neighbour's vote counts, as scikit-learn's `weights` spells it."""

    UNIFORM = "uniform"
    DISTANCE = "distance"


class Aggregation(StrEnum):
    """What a regressor makes of its neighbours' labels."""

    MEAN = "mean"
    MEDIAN = "median"
    GEOMETRIC_MEAN = "geometric_mean"


class Vote(Protocol):
    """Decides among neighbours."""

    def __call__(self, rows: Int64Array, weights: Float64Array) -> FloatArray:
        """Predicts m values.

        Args:
            rows: (m, k) row numbers, where -1 stands for no neighbour.
            weights: (m, k), 0 where there is no neighbour.
        """


def answer_type(labels: LabelArray) -> FloatType:
    """The type in which labels are answered: float32 where it holds each of them exactly, else float64."""
    with np.errstate(over="ignore"):
        exact = np.array_equal(labels.astype(np.float32).astype(np.float64), labels.astype(np.float64))
    return np.dtype(np.float32) if exact else np.dtype(np.float64)


def weigh(weights: Weights, metric: Metric, rows: Int64Array, values: NDArray[np.float32]) -> Float64Array:
    """Says how much each neighbour counts.

    By distance, it is the inverse of the Euclidean distance or of 1 minus the cosine; neighbours at distance 0
    outvote all others, as in scikit-learn.

    Args:
        weights: how to count.
        metric: what `values` mean.
        rows: (m, k) row numbers, where -1 stands for no neighbour.
        values: (m, k) squared distances or similarities.

    Returns:
        (m, k), 0 where there is no neighbour.
    """
    found = rows >= 0
    if weights is Weights.UNIFORM:
        return found.astype(np.float64)
    distances = np.sqrt(values, dtype=np.float64) if metric is Metric.L2 else 1.0 - values.astype(np.float64)
    same: BoolArray = found & (distances <= 0)
    inverse = np.divide(1.0, distances, out=np.zeros_like(distances), where=found & ~same)
    return np.where(same.any(axis=1, keepdims=True), same, inverse)


class MajorityVote:
    """The label with the most votes; among equals the smallest, as scikit-learn decides.

    Attributes:
        classes: (c,) the labels that occur, ascending.
    """

    def __init__(self, labels: LabelArray) -> None:
        classes, codes = np.unique(labels, return_inverse=True)
        self.classes: FloatArray = np.asarray(classes, answer_type(labels))
        self._codes = codes.astype(np.int32)

    def __call__(self, rows: Int64Array, weights: Float64Array) -> FloatArray:
        """Predicts (m,) labels in their answer type."""
        codes = self._codes[rows]
        order = np.argsort(codes, axis=1, kind="stable")
        codes, weights = np.take_along_axis(codes, order, axis=1), np.take_along_axis(weights, order, axis=1)
        best = codes[:, 0]
        most = np.full(len(rows), -np.inf)
        total = np.zeros(len(rows))
        for column in range(codes.shape[1]):
            code = codes[:, column]
            same = code == codes[:, column - 1] if column else np.zeros(len(rows), bool)
            total = np.where(same, total, 0.0) + weights[:, column]
            more = total > most
            best = np.where(more, code, best)
            most = np.where(more, total, most)
        return self.classes[best]

    def shares(self, rows: Int64Array, weights: Float64Array) -> Float64Array:
        """Each class's share of the votes, (m, c)."""
        shares = np.zeros((len(rows), len(self.classes)))
        np.add.at(shares, (np.arange(len(rows))[:, np.newaxis], self._codes[rows]), weights)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


class Mean:
    """The weighted mean of the neighbours' labels, or their geometric mean.

    Raises:
        UserError: a geometric mean of labels that are not all positive.
    """

    def __init__(self, labels: LabelArray, *, geometric: bool = False) -> None:
        self._labels = labels.astype(np.float64)
        self._geometric = geometric
        if geometric:
            if self._labels.min() <= 0:
                raise UserError(
                    f"aggregation=geometric_mean takes positive labels, {self._labels.min():g} came. "
                    "Use mean or median, or shift the labels."
                )
            self._labels = np.log(self._labels)

    def __call__(self, rows: Int64Array, weights: Float64Array) -> FloatArray:
        """Predicts (m,) float64."""
        mean = (self._labels[rows] * weights).sum(axis=1) / weights.sum(axis=1)
        return np.asarray(np.exp(mean) if self._geometric else mean)


class Median:
    """The weighted median: the label at which half of the weight is reached.

    Where exactly half lies on each side, it is the middle between the two labels, which for equal weights is the
    usual median.
    """

    def __init__(self, labels: LabelArray) -> None:
        self._labels = labels.astype(np.float64)

    def __call__(self, rows: Int64Array, weights: Float64Array) -> FloatArray:
        """Predicts (m,) float64."""
        labels = np.where(weights > 0, self._labels[rows], np.inf)
        order = np.argsort(labels, axis=1, kind="stable")
        labels, weights = np.take_along_axis(labels, order, axis=1), np.take_along_axis(weights, order, axis=1)
        reached = np.cumsum(weights, axis=1)
        half = reached[:, -1:] / 2
        lower = np.argmax(reached >= half, axis=1)[:, np.newaxis]
        upper = np.argmax(reached > half, axis=1)[:, np.newaxis]
        middle = np.take_along_axis(labels, lower, axis=1) + np.take_along_axis(labels, upper, axis=1)
        return np.asarray(middle[:, 0] / 2)


def vote_for(predictor_type: str, aggregation: Aggregation, labels: LabelArray) -> Vote:
    """Makes the vote of a `classifier` or a `regressor`.

    Raises:
        UserError: a geometric mean of labels that are not all positive.
    """
    if predictor_type == "classifier":
        return MajorityVote(labels)
    if aggregation is Aggregation.MEDIAN:
        return Median(labels)
    return Mean(labels, geometric=aggregation is Aggregation.GEOMETRIC_MEAN)
