"""A trained model: an index, the labels of its rows, and the vote among neighbours."""

from dataclasses import dataclass

import numpy as np

from knn_container.batch import Float32Array, Float64Array, Int64Array, LabelArray
from knn_container.search import Neighbours, Search
from knn_container.voting import Vote


@dataclass(frozen=True)
class Predictions:
    """The answer to n rows.

    Attributes:
        predicted: (n,) float64 labels or means.
        neighbours: where they come from.
    """

    predicted: Float64Array
    neighbours: Neighbours


@dataclass(frozen=True)
class Model:
    """Predicts; safe to use from several threads at once.

    Attributes:
        dimension: d, the features that a query has.
        k: neighbours that vote.
        search: finds them.
        vote: decides.
        labels: (n,) the rows' labels in the type they were trained with.
        ids: (n,) int64, the rows' running numbers in the training data.
        is_similarity: whether larger values of neighbours are nearer.
    """

    dimension: int
    k: int
    search: Search
    vote: Vote
    labels: LabelArray
    ids: Int64Array
    is_similarity: bool

    def predict(self, features: Float32Array) -> Predictions:
        """Predicts from (n, d) finite rows with one search."""
        neighbours = self.search(features, self.k)
        return Predictions(self.vote(neighbours.rows), neighbours)

    def warm_up(self) -> None:
        """Searches once, so that the first request does not pay for what is set up on first use."""
        self.predict(np.zeros((1, self.dimension), np.float32))
