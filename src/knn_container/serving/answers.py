"""From predictions to the columns of an answer."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import BoolArray, Column
from knn_container.errors import RequestError
from knn_container.metric import Metric
from knn_container.model import Model, Predictions
from knn_container.serving import negotiation


class Columns:
    """The columns that an answer can have.

    Neighbours are in ascending order of their distances, as the built-in algorithm has them: for a similarity the
    nearest so comes last. Labels are float32 where that holds all of the model's labels exactly, else float64.

    Args:
        model: that predicted.
        predictions: of n rows.
        euclidean: whether an L2 distance is answered as its root.
        tensors: whether predictions and shares have the labels' type too, as recordio's tensors do; else they are
            float64.
    """

    def __init__(self, model: Model, predictions: Predictions, *, euclidean: bool, tensors: bool) -> None:
        self._model = model
        self._type = model.answer_type if tensors else np.dtype(np.float64)
        self._predictions = predictions
        self._euclidean = euclidean and model.options.metric is Metric.L2
        step = -1 if model.options.metric.is_similarity else 1
        self._rows = predictions.neighbours.rows[:, ::step]
        self._values = predictions.neighbours.values[:, ::step]
        self._found: BoolArray = self._rows >= 0

    def of(self, names: Sequence[str]) -> dict[str, Column]:
        """Makes the columns of these names.

        Raises:
            RequestError: 400, the model has no such column.
        """
        return {name: _MAKERS[name](self) for name in names}

    def predicted(self) -> Column:
        """What the model predicts."""
        predicted = self._predictions.predicted
        return list(predicted if self._model.classes is not None else predicted.astype(self._type))

    def distances(self) -> Column:
        """The neighbours' distances or similarities."""
        return self._existing(np.sqrt(self._values) if self._euclidean else np.ascontiguousarray(self._values))

    def labels(self) -> Column:
        """The neighbours' labels."""
        return self._existing(self._model.labels[self._rows].astype(self._model.answer_type))

    def ids(self) -> Column:
        """The neighbours' names or, where they have none, their running numbers in the training data."""
        ids = self._existing(np.asarray(self._model.ids)[self._rows])
        return [row.tolist() for row in ids] if self._model.ids.dtype.kind == "U" else ids

    def probability(self) -> Column:
        """The share of the votes that the predicted label has."""
        return list(self._shares().max(axis=1))

    def probabilities(self) -> Column:
        """Each class's share of the votes, in the order of `classes`."""
        return list(self._shares())

    def classes(self) -> Column:
        """The labels that occur, ascending; the same for every row."""
        return [self._classes()] * len(self._rows)

    def _existing(self, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        if self._found.all():
            return list(values)
        return [value[found] for value, found in zip(values, self._found, strict=True)]

    def _classes(self) -> NDArray[np.generic]:
        classes = self._model.classes
        if classes is None:
            raise RequestError(400, "A regressor has no classes: probability, probabilities and classes are not there.")
        return classes

    def _shares(self) -> NDArray[np.float32 | np.float64]:
        self._classes()  # there are none for a regressor
        return self._model.shares(self._predictions).astype(self._type)


_MAKERS: dict[str, Callable[[Columns], Column]] = {
    negotiation.PREDICTED: Columns.predicted,
    negotiation.DISTANCES: Columns.distances,
    negotiation.LABELS: Columns.labels,
    negotiation.IDS: Columns.ids,
    negotiation.PROBABILITY: Columns.probability,
    negotiation.PROBABILITIES: Columns.probabilities,
    negotiation.CLASSES: Columns.classes,
}
