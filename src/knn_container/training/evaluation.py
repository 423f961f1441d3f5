"""How good predictions are, counted batch by batch."""

from collections import Counter
from math import sqrt
from typing import Any

import numpy as np

from knn_container.batch import Float64Array, Int64Array, LabelArray
from knn_container.voting import FloatArray, Vote

_CLASSES = 1000  # of more classes, none is reported by itself
_CONFUSION_CLASSES = 100  # and of more than these, no confusion matrix
_SAMPLE = 5000  # test rows that are kept for a picture
_BLOCK = 1 << 20  # neighbours that vote at a time: 8 MiB of weights


class ClassifierScore:
    """Accuracy and macro-averaged F1, as scikit-learn defines them.

    Attributes:
        name: of the score that is told for every number of neighbours.
        higher_is_better: what that score is like.
        rows: counted so far.
    """

    name = "accuracy"
    higher_is_better = True

    def __init__(self) -> None:
        self.rows = 0
        self._right: Counter[float] = Counter()
        self._actual: Counter[float] = Counter()
        self._predicted: Counter[float] = Counter()
        self._pairs: Counter[tuple[float, float]] | None = Counter()

    @staticmethod
    def total(labels: Float64Array, predictions: FloatArray) -> float:
        """How many of (m,) labels are predicted: what the accuracy is the mean of."""
        return float(np.count_nonzero(labels == predictions))

    def add(self, labels: LabelArray, predictions: FloatArray) -> None:
        """Counts (n,) labels and what was predicted for them."""
        self.rows += len(labels)
        both = np.concatenate([labels.astype(np.float64), predictions.astype(np.float64)])
        classes, codes = np.unique(both, return_inverse=True)
        actual, predicted = codes[: len(labels)], codes[len(labels) :]
        names: list[float] = classes.tolist()
        for counter, found in (
            (self._right, actual[actual == predicted]),
            (self._actual, actual),
            (self._predicted, predicted),
        ):
            counter.update(dict(zip(names, np.bincount(found, minlength=len(names)).tolist(), strict=True)))
        if self._pairs is not None:
            pairs, counts = np.unique(actual * len(names) + predicted, return_counts=True)
            for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
                self._pairs[names[pair // len(names)], names[pair % len(names)]] += count
            if len(self._classes()) > _CONFUSION_CLASSES:
                self._pairs = None

    def merge(self, other: "ClassifierScore") -> None:
        """Counts what another score has counted."""
        self.rows += other.rows
        self._right += other._right
        self._actual += other._actual
        self._predicted += other._predicted
        if self._pairs is not None and other._pairs is not None:
            self._pairs += other._pairs
        if other._pairs is None or len(self._classes()) > _CONFUSION_CLASSES:
            self._pairs = None

    def result(self) -> dict[str, float]:
        """The scores by name, in the order in which they are logged."""
        f1 = [self._f1(label) for label in self._classes()]
        return {"accuracy": self._right.total() / self.rows, "macro_f_1.000": sum(f1) / len(f1)}

    def details(self) -> dict[str, Any]:
        """All that is known, in the shape of the report."""
        accuracy, f1 = self.result().values()
        classes = self._classes()
        details: dict[str, Any] = {"scores": {"accuracy": accuracy, "macro_f1": f1, "classes": len(classes)}}
        if len(classes) <= _CLASSES:
            details["classes"] = [self._class_scores(label) for label in classes]
        if self._pairs is not None:
            details["confusion_matrix"] = [[self._pairs[actual, it] for it in classes] for actual in classes]
        return details

    def _classes(self) -> list[float]:
        """The labels that occur or are predicted, ascending."""
        return sorted(self._actual | self._predicted)

    def _f1(self, label: float) -> float:
        return 2 * self._right[label] / (self._actual[label] + self._predicted[label])

    def _class_scores(self, label: float) -> dict[str, float]:
        right, actual, predicted = self._right[label], self._actual[label], self._predicted[label]
        return {
            "label": int(label) if label.is_integer() else label,
            "precision": right / predicted if predicted else 0.0,
            "recall": right / actual if actual else 0.0,
            "f1": self._f1(label),
            "support": actual,
        }


class RegressorScore:
    """The mean squared error and what goes with it; its attributes are those of `ClassifierScore`.

    Args:
        seed: of the rows that are kept for a picture; of scores that are merged, each has another.
    """

    name = "mse"
    higher_is_better = False

    def __init__(self, seed: int = 0) -> None:
        self.rows = 0
        self._squares = 0.0
        self._absolute = 0.0
        self._first: float | None = None
        self._mean = 0.0  # of the labels, less the first
        self._spread = 0.0  # the labels' squared distances from their mean, summed
        self._random = np.random.default_rng(seed)
        self._sample = np.empty((3, 0))

    @staticmethod
    def total(labels: Float64Array, predictions: FloatArray) -> float:
        """The squared errors, summed: what the mse is the mean of."""
        with np.errstate(over="ignore"):  # large labels' squares are infinite
            return float(np.square(labels - predictions).sum())

    def add(self, labels: LabelArray, predictions: FloatArray) -> None:
        """Counts (n,) labels and what was predicted for them."""
        actual = labels.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            self._squares += self.total(actual, predictions)
            self._absolute += float(np.abs(actual - predictions).sum())
            self._add_labels(actual)
        self.rows += len(labels)
        self._add_sample(np.stack([self._random.random(len(labels)), actual, predictions]))

    def _add_sample(self, came: Float64Array) -> None:
        """Keeps the rows with the smallest random numbers: the same ones, however the rows are cut into batches."""
        sample = np.concatenate([self._sample, came], axis=1)
        self._sample = sample[:, np.argsort(sample[0], kind="stable")[:_SAMPLE]]

    def _add_labels(self, labels: Float64Array) -> None:
        if not len(labels):
            return
        if self._first is None:
            self._first = float(labels[0])
        shifted = labels - self._first
        mean = float(shifted.mean())
        self._add_spread(len(labels), mean, float(np.square(shifted - mean).sum()))

    def _add_spread(self, rows: int, mean: float, spread: float) -> None:
        """Merges means and spreads as Chan, Golub and LeVeque, 1979; less the first, equal labels have none."""
        share = rows / (self.rows + rows)
        apart = mean - self._mean
        self._spread += spread + apart * apart * self.rows * share
        self._mean += apart * share

    def merge(self, other: "RegressorScore") -> None:
        """Counts what another score has counted."""
        if other._first is None:
            return
        if self._first is None:
            self._first = other._first
        with np.errstate(over="ignore", invalid="ignore"):
            self._squares += other._squares
            self._absolute += other._absolute
            self._add_spread(other.rows, other._mean + (other._first - self._first), other._spread)
        self.rows += other.rows
        self._add_sample(other._sample)

    def result(self) -> dict[str, float]:
        """The score by name."""
        return {"mse": self._squares / self.rows}

    def details(self) -> dict[str, Any]:
        """All that is known, in the shape of the report; no r2 of labels that are all the same."""
        mse = self._squares / self.rows
        r2 = 1 - self._squares / self._spread if self._spread else None
        return {"scores": {"mse": mse, "rmse": sqrt(mse), "mae": self._absolute / self.rows, "r2": r2}}

    def sample(self) -> Float64Array:
        """(2, at most 5,000) labels and predictions, drawn evenly from all."""
        return self._sample[1:]


Score = ClassifierScore | RegressorScore


def score_for(predictor_type: str, seed: int = 0) -> Score:
    """Makes the score of a `classifier` or a `regressor`."""
    return ClassifierScore() if predictor_type == "classifier" else RegressorScore(seed)


class Evaluation:
    """The score of a model, and those that it would have with fewer neighbours.

    Attributes:
        score: with all neighbours.
    """

    def __init__(self, predictor_type: str, seed: int = 0) -> None:
        self.score = score_for(predictor_type, seed)
        self._sums: dict[int, float] = {}

    def add(
        self, vote: Vote, labels: LabelArray, predictions: FloatArray, rows: Int64Array, weights: Float64Array
    ) -> None:
        """Counts n test rows.

        Args:
            vote: the model's.
            labels: (n,).
            predictions: (n,) by all neighbours.
            rows: (n, k) the neighbours' row numbers, nearest first and -1 last.
            weights: (n, k) how much each neighbour counts.
        """
        step = max(1, _BLOCK // rows.shape[1])
        for start in range(0, len(labels), step):
            part = slice(start, start + step)
            self.score.add(labels[part], predictions[part])
            wide = labels[part].astype(np.float64)
            for k, predicted in vote.prefixes(rows[part], weights[part]):
                self._sums[k] = self._sums.get(k, 0.0) + self.score.total(wide, predicted)

    def merge(self, other: "Evaluation") -> None:
        """Counts the rows that another evaluation of the same model has counted."""
        self.score.merge(other.score)  # type: ignore[arg-type]  # both are of the model's predictor_type
        for k, total in other._sums.items():
            self._sums[k] = self._sums.get(k, 0.0) + total

    def per_k(self) -> dict[int, float]:
        """The score by number of neighbours, ascending: of a median not every number, see `Median.prefixes`."""
        return {k: total / self.score.rows for k, total in self._sums.items()}

    def best(self) -> tuple[int, float]:
        """The number of neighbours with the best score, among equals the smallest, and the score."""
        choose = max if self.score.higher_is_better else min
        return choose(self.per_k().items(), key=lambda it: it[1])
