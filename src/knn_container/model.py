"""A trained model: the search among its rows, their labels, and the vote among neighbours."""

from dataclasses import dataclass

import faiss
import numpy as np

from knn_container.batch import Float32Array, Int64Array, LabelArray
from knn_container.metric import Metric
from knn_container.search import Neighbours, search_for
from knn_container.voting import FloatArray, answer_type, vote_for


@dataclass(frozen=True)
class Predictions:
    """The answer to n rows.

    Attributes:
        predicted: (n,) labels or means.
        neighbours: where they come from.
    """

    predicted: FloatArray
    neighbours: Neighbours


class Model:
    """Predicts; safe to use from several threads at once.

    Attributes:
        dimension: d, the features that a query has.
        k: neighbours that vote.
        is_similarity: whether larger values of neighbours are nearer.
        labels: (n,) the rows' labels in the type they were trained with.
        answer_type: float32 where that holds every label exactly, else float64.
        ids: (n,) the rows' running numbers in the training data.
    """

    def __init__(
        self,
        index: faiss.Index,
        labels: LabelArray,
        ids: Int64Array,
        *,
        metric: Metric,
        nprobe: int,
        k: int,
        predictor_type: str,
    ) -> None:
        self.dimension: int = index.d
        self.k = k
        self.is_similarity = metric.is_similarity
        self.labels = labels
        self.answer_type = answer_type(labels)
        self.ids = ids
        self._search = search_for(index, metric, nprobe)
        self._vote = vote_for(predictor_type, labels)

    def predict(self, features: Float32Array) -> Predictions:
        """Predicts from (n, d) finite rows with one search."""
        neighbours = self._search(features, self.k)
        return Predictions(self._vote(neighbours.rows), neighbours)

    def warm_up(self) -> None:
        """Searches once, so that the first request does not pay for what is set up on first use."""
        self.predict(np.zeros((1, self.dimension), np.float32))
