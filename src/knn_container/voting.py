"""From the labels of neighbours to a prediction."""

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import Float64Array, Int64Array, LabelArray

FloatArray = NDArray[np.float32 | np.float64]
FloatType = np.dtype[np.float32] | np.dtype[np.float64]


def answer_type(labels: LabelArray) -> FloatType:
    """The type in which labels are answered: float32 where it holds each of them exactly, else float64."""
    with np.errstate(over="ignore"):
        exact = np.array_equal(labels.astype(np.float32).astype(np.float64), labels.astype(np.float64))
    return np.dtype(np.float32) if exact else np.dtype(np.float64)


class MajorityVote:
    """The label that most neighbours have; among equals the smallest, as scikit-learn decides.

    Args:
        labels: (n,) the index's labels.
    """

    def __init__(self, labels: LabelArray) -> None:
        classes, codes = np.unique(labels, return_inverse=True)
        self._classes: NDArray[np.float32 | np.float64] = np.asarray(classes, answer_type(labels))
        self._codes = codes.astype(np.int32)

    def __call__(self, rows: Int64Array) -> FloatArray:
        """Predicts (m,) labels in their answer type from (m, k) row numbers, where -1 stands for no neighbour."""
        votes = np.where(rows >= 0, self._codes[rows], np.int32(-1))
        votes.sort(axis=1)
        return self._classes[_first_mode(votes)]


def _first_mode(votes: NDArray[np.int32]) -> NDArray[np.int32]:
    """The most frequent value of each sorted row, the smallest among equals; values under 0 do not count."""
    best = votes[:, -1].copy()
    longest = np.zeros(len(votes), np.int32)
    run = np.zeros(len(votes), np.int32)
    for column in range(votes.shape[1]):
        vote = votes[:, column]
        same = vote == votes[:, column - 1] if column else np.zeros(len(votes), bool)
        run = np.where(vote < 0, 0, np.where(same, run + 1, 1))
        longer = run > longest
        best[longer] = vote[longer]
        longest[longer] = run[longer]
    return best


class Mean:
    """The mean of the neighbours' labels.

    Args:
        labels: (n,) the index's labels.
    """

    def __init__(self, labels: LabelArray) -> None:
        self._labels = labels.astype(np.float64)

    def __call__(self, rows: Int64Array) -> Float64Array:
        """Predicts (m,) float64 from (m, k) row numbers, where -1 stands for no neighbour."""
        found = rows >= 0
        total = np.where(found, self._labels[rows], 0.0).sum(axis=1)
        return np.asarray(total / np.maximum(found.sum(axis=1), 1))


Vote = MajorityVote | Mean


def vote_for(predictor_type: str, labels: LabelArray) -> Vote:
    """Makes the vote of a `classifier` or a `regressor`."""
    return MajorityVote(labels) if predictor_type == "classifier" else Mean(labels)
