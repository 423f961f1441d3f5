"""A trained model: the search among its rows, their labels, and the vote among neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from knn_container.batch import Features, Float64Array, IdArray, LabelArray
from knn_container.metric import Metric
from knn_container.reduction import Reduction, project_for
from knn_container.search import AUTO, Neighbours, Share, Timing, own_memory, search_for
from knn_container.voting import Aggregation, FloatArray, MajorityVote, Weights, answer_type, vote_for, weigh

LARGEST_K = 1024  # as in the built-in algorithm


@dataclass(frozen=True)
class ModelOptions:
    """How a model predicts.

    Attributes:
        dimension: d, the features that a row has as it comes.
        k: neighbours that vote.
        predictor_type: `classifier` or `regressor`.
        metric: what makes rows near.
        nprobe: inverted lists that a query looks into.
        weights: how much a neighbour counts.
        aggregation: what a regressor makes of its neighbours' labels.
        reduction: how rows are projected; None leaves them as they are.
        search_engine: of a flat index; no answer depends on it.
    """

    dimension: int
    k: int
    predictor_type: str
    metric: Metric
    nprobe: int
    weights: Weights
    aggregation: Aggregation
    reduction: Reduction | None
    search_engine: str = AUTO


@dataclass(frozen=True)
class Predictions:
    """The answer to n rows.

    Attributes:
        predicted: (n,) labels or means.
        neighbours: where they come from, nearest first.
        weights: (n, k) how much each neighbour counted.
    """

    predicted: FloatArray
    neighbours: Neighbours
    weights: Float64Array


class Model:
    """Predicts; safe to use from several threads at once.

    Attributes:
        options: how it predicts.
        labels: (n,) the rows' labels in the type they were trained with.
        answer_type: float32 where that holds every label exactly, else float64.
        vote: decides among neighbours.
        ids: (n,) the rows' names or, where they have none, their running numbers in the training data.

    Args:
        zero_rows: under COSINE, the numbers of rows without a direction, where the index cannot tell them.

    Raises:
        UserError: labels that the aggregation does not take.
    """

    def __init__(
        self,
        index: faiss.Index,
        labels: LabelArray,
        ids: IdArray,
        options: ModelOptions,
        zero_rows: Sequence[int] = (),
    ) -> None:
        self.options = options
        self.labels = labels
        self.answer_type = answer_type(labels)
        self.ids = ids
        self._project = project_for(options.reduction, options.dimension, index.d)
        self._search = search_for(index, options.metric, options.nprobe, zero_rows, engine=options.search_engine)
        self.vote = vote_for(options.predictor_type, options.aggregation, labels)

    @property
    def classes(self) -> FloatArray | None:
        """(c,) a classifier's labels, ascending; None for a regressor."""
        return self.vote.classes if isinstance(self.vote, MajorityVote) else None

    def predict(self, features: Features, k: int | None = None, nprobe: int | None = None) -> Predictions:
        """Predicts from (n, d) finite rows with one search.

        Args:
            features: rows as they come.
            k: neighbours that vote, in place of the model's.
            nprobe: inverted lists to look into, in place of the model's.
        """
        neighbours = self._search(self._project(features), k or self.options.k, nprobe)
        return self.decide(neighbours)

    def decide(self, neighbours: Neighbours) -> Predictions:
        """Lets neighbours that are known vote."""
        weights = weigh(self.options.weights, self.options.metric, neighbours.rows, neighbours.values)
        return Predictions(self.vote(neighbours.rows, weights), neighbours, weights)

    def shares(self, predictions: Predictions) -> Float64Array:
        """Each class's share of a classifier's votes, (n, c)."""
        if not isinstance(self.vote, MajorityVote):
            raise TypeError("a regressor has no classes")
        return self.vote.shares(predictions.neighbours.rows, predictions.weights)

    def warm_up(self) -> None:
        """Searches for one row, so that no request pays for what is set up on first use."""
        self.predict(np.zeros((1, self.options.dimension), np.float32))

    def compare(self) -> None:
        """Chooses what makes the same answers fastest at once: see `Search.compare`."""
        self._search.compare()

    def speed_up(self, room: int, queries: int | None = None, share: Share = own_memory) -> None:
        """Builds what makes the same answers faster still: see `Search.speed_up`."""
        self._search.speed_up(room, queries, share)

    @property
    def timings(self) -> tuple[Timing, ...]:
        """What that choice rests on."""
        return self._search.timings
