"""How good predictions are, counted batch by batch."""

from collections import Counter

import numpy as np

from knn_container.batch import LabelArray
from knn_container.voting import FloatArray


class ClassifierScore:
    """Accuracy and macro-averaged F1, as scikit-learn defines them."""

    def __init__(self) -> None:
        self.rows = 0
        self._right: Counter[float] = Counter()
        self._actual: Counter[float] = Counter()
        self._predicted: Counter[float] = Counter()

    def add(self, labels: LabelArray, predictions: FloatArray) -> None:
        """Counts (n,) labels and what was predicted for them."""
        self.rows += len(labels)
        actual, predictions = labels.astype(np.float64), predictions.astype(np.float64)
        for counter, values in (
            (self._right, actual[actual == predictions]),
            (self._actual, actual),
            (self._predicted, predictions),
        ):
            classes, counts = np.unique(values, return_counts=True)
            counter.update(dict(zip(classes.tolist(), counts.tolist(), strict=True)))

    def result(self) -> dict[str, float]:
        """The scores by name, in the order in which they are logged."""
        f1 = [
            2 * self._right[label] / (self._actual[label] + self._predicted[label])
            for label in self._actual | self._predicted
        ]
        return {"accuracy": self._right.total() / self.rows, "macro_f_1.000": sum(f1) / len(f1)}


class RegressorScore:
    """The mean squared error."""

    def __init__(self) -> None:
        self.rows = 0
        self._squares = 0.0

    def add(self, labels: LabelArray, predictions: FloatArray) -> None:
        """Counts (n,) labels and what was predicted for them."""
        self.rows += len(labels)
        self._squares += float(np.square(labels.astype(np.float64) - predictions).sum())

    def result(self) -> dict[str, float]:
        """The score by name."""
        return {"mse": self._squares / self.rows}


Score = ClassifierScore | RegressorScore


def score_for(predictor_type: str) -> Score:
    """Makes the score of a `classifier` or a `regressor`."""
    return ClassifierScore() if predictor_type == "classifier" else RegressorScore()
