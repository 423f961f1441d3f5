"""From the labels of neighbours to a prediction."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import BoolArray, Float64Array, Int64Array, LabelArray
from knn_container.errors import UserError
from knn_container.metric import Metric

FloatArray = NDArray[np.float32 | np.float64]
Codes = NDArray[np.unsignedinteger[Any]]
FloatType = np.dtype[np.float32] | np.dtype[np.float64]

_EVERY_MEDIAN = 64  # up to so many neighbours a median is tried with each number of them
_MORE_MEDIANS = 64  # and beyond with so many numbers at most


_LARGE = 1e280
_BLOCK = 1 << 16  # labels that are looked at at a time


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

    def prefixes(self, rows: Int64Array, weights: Float64Array) -> Iterator[tuple[int, FloatArray]]:
        """Predicts m values from fewer neighbours too.

        Args:
            rows: (m, k) row numbers, nearest first and -1 last.
            weights: (m, k) as `weigh` gives them, so that the first j are the weights of the j nearest.

        Yields:
            j and what `rows[:, :j]` and `weights[:, :j]` give, to the last bit; j ascends from 1 to k.
        """


def answer_type(labels: LabelArray) -> FloatType:
    """The type in which labels are answered: float32 where it holds each of them exactly, else float64."""
    if labels.dtype == np.float32:
        return np.dtype(np.float32)
    with np.errstate(over="ignore"):
        exact = all(
            np.array_equal(some.astype(np.float32).astype(np.float64), some.astype(np.float64))
            for some in _blocks(labels)
        )
    return np.dtype(np.float32) if exact else np.dtype(np.float64)


def _blocks(labels: LabelArray) -> Iterator[LabelArray]:
    """Labels, some at a time, so that the copies that are made of them take little memory."""
    return (labels[start : start + _BLOCK] for start in range(0, len(labels), _BLOCK))


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
        classes = np.empty(0, labels.dtype)
        for some in _blocks(labels):
            classes = np.union1d(classes, some)
        self.classes: FloatArray = classes.astype(answer_type(labels))
        smallest = np.min_scalar_type(max(0, len(classes) - 1))
        codes = [np.searchsorted(classes, some).astype(smallest) for some in _blocks(labels)]
        self._codes: Codes = np.concatenate([np.empty(0, smallest), *codes])

    def __call__(self, rows: Int64Array, weights: Float64Array) -> FloatArray:
        """Predicts (m,) labels in their answer type."""
        codes: Codes = self._codes[rows]
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

    def prefixes(self, rows: Int64Array, weights: Float64Array) -> Iterator[tuple[int, FloatArray]]:
        """Predicts from the j nearest, for every j: each neighbour adds to its class, which may then lead."""
        codes = np.ascontiguousarray(self._codes[rows].T, np.int32)
        slots, width = self._slots(codes)
        votes = np.zeros(len(rows) * width)
        start = np.arange(len(rows)) * width
        best, most = codes[0], np.full(len(rows), -np.inf)
        for column, code in enumerate(codes):
            slot = start + slots[column]
            total = votes[slot] + weights[:, column]
            votes[slot] = total
            leads = (total > most) | ((total == most) & (code < best))
            best, most = np.where(leads, code, best), np.where(leads, total, most)
            yield column + 1, self.classes[best]

    def _slots(self, codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
        """Turns (k, m) codes into numbers from 0 within each of m queries; gives them, and how many there can be."""
        if len(self.classes) <= len(codes):
            return codes, len(self.classes)
        order = np.argsort(codes, axis=0, kind="stable")
        ascending = np.take_along_axis(codes, order, axis=0)
        numbers = np.zeros_like(codes)
        np.cumsum(ascending[1:] != ascending[:-1], axis=0, dtype=np.int32, out=numbers[1:])
        slots = np.empty_like(codes)
        np.put_along_axis(slots, order, numbers, axis=0)
        return slots, len(codes)

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
        self._labels = labels
        # Labels near float64's largest would add up to infinity.
        large = (
            not geometric
            and max((np.abs(some.astype(np.float64)).max() for some in _blocks(labels)), default=0) > _LARGE
        )
        self._scale = 2.0**64 if large else 1.0
        self._geometric = geometric
        least = min((some.min() for some in _blocks(labels)), default=np.inf)
        if geometric and least <= 0:
            raise UserError(
                f"aggregation=geometric_mean takes positive labels, {least:g} came. "
                "Use mean or median, or shift the labels."
            )

    def _of(self, rows: Int64Array) -> Float64Array:
        """What is added up of rows."""
        labels: Float64Array = self._labels[rows].astype(np.float64)
        return np.log(labels) if self._geometric else labels / self._scale

    def __call__(self, rows: Int64Array, weights: Float64Array) -> FloatArray:
        """Predicts (m,) float64."""
        # cumsum adds from left to right, as `prefixes` does; sum adds in pairs and would differ in the last bit.
        total = np.cumsum(self._of(rows) * weights, axis=1)[:, -1]
        return self._mean(total, np.cumsum(weights, axis=1)[:, -1])

    def prefixes(self, rows: Int64Array, weights: Float64Array) -> Iterator[tuple[int, FloatArray]]:
        """Predicts from the j nearest, for every j: each neighbour adds to the sums."""
        total, reached = np.zeros(len(rows)), np.zeros(len(rows))
        for column in range(rows.shape[1]):
            total += self._of(rows[:, column]) * weights[:, column]
            reached += weights[:, column]
            yield column + 1, self._mean(total, reached)

    def _mean(self, total: Float64Array, weight: Float64Array) -> FloatArray:
        mean = total / weight
        return np.asarray(np.exp(mean) if self._geometric else mean * self._scale)


class Median:
    """The weighted median: the label at which half of the weight is reached.

    Where exactly half lies on each side, it is the middle between the two labels, which for equal weights is the
    usual median.
    """

    def __init__(self, labels: LabelArray) -> None:
        self._labels = labels

    def __call__(self, rows: Int64Array, weights: Float64Array) -> FloatArray:
        """Predicts (m,) float64."""
        return self._middle(*self._ascending(rows, weights)[:2])

    def prefixes(self, rows: Int64Array, weights: Float64Array) -> Iterator[tuple[int, FloatArray]]:
        """Predicts from the j nearest, for every j up to 64 and for at most 64 more, spaced evenly on a log scale."""
        m, k = rows.shape
        numbers = set(range(1, min(k, _EVERY_MEDIAN) + 1))
        if k > _EVERY_MEDIAN:
            numbers.update(np.geomspace(_EVERY_MEDIAN, k, _MORE_MEDIANS + 1).round().astype(int).tolist())
        medians = []
        # Sorted once; leaving out neighbours from the farthest on leaves the others in their order.
        labels, weights, order = self._ascending(rows, weights)
        for j in sorted(numbers, reverse=True):
            near = order < j
            labels, weights = labels[near].reshape(m, j), weights[near].reshape(m, j)
            order = order[near].reshape(m, j)
            medians.append((j, self._middle(labels, weights)))
        yield from reversed(medians)

    def _ascending(self, rows: Int64Array, weights: Float64Array) -> tuple[Float64Array, Float64Array, Int64Array]:
        """The neighbours' labels, ascending, with their weights and places; what weighs nothing comes last."""
        labels = np.where(weights > 0, self._labels[rows].astype(np.float64), np.inf)
        order = np.argsort(labels, axis=1, kind="stable")
        return np.take_along_axis(labels, order, axis=1), np.take_along_axis(weights, order, axis=1), order

    @staticmethod
    def _middle(labels: Float64Array, weights: Float64Array) -> FloatArray:
        reached = np.cumsum(weights, axis=1)
        half = reached[:, -1:] / 2
        lower = np.argmax(reached >= half, axis=1)[:, np.newaxis]
        upper = np.argmax(reached > half, axis=1)[:, np.newaxis]
        low, high = (np.take_along_axis(labels, place, axis=1)[:, 0] for place in (lower, upper))
        # The sum of two labels may be too large for float64, and half of one too small.
        large = np.maximum(np.abs(low), np.abs(high)) > _LARGE
        with np.errstate(over="ignore"):
            return np.where(large, low / 2 + high / 2, (low + high) / 2)


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
