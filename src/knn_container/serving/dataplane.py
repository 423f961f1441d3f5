"""What the server does with a request, apart from HTTP."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from knn_container.errors import RequestError
from knn_container.formats import mediatype
from knn_container.formats.mediatype import MediaType
from knn_container.model import Model
from knn_container.serving import bodies
from knn_container.serving.answers import Columns
from knn_container.serving.negotiation import (
    CLASSES,
    DISTANCES,
    IDS,
    LABELS,
    PROBABILITIES,
    PROBABILITY,
    Answer,
    Defaults,
)
from knn_container.serving.turns import CpuTurns

_BLOCK = 1 << 22  # numbers that a step of a search holds
_MOST_NUMBERS = 1 << 24  # beside predictions, in an answer


@dataclass(frozen=True)
class DataPlane:
    """Answers requests; safe to use from several threads at once.

    Attributes:
        turns: at the CPUs.
        defaults: what holds where a request does not say.
        euclidean: whether an L2 distance is answered as its root.
    """

    turns: CpuTurns
    defaults: Defaults = field(default_factory=Defaults)
    euclidean: bool = False

    def invoke(self, model: Model, content_type: MediaType, body: bytes, answer: Answer) -> bytes:
        """Answers one request with one search.

        Raises:
            RequestError: its status says what kind, its text what was expected and what came.
        """
        if answer.k is not None and answer.k > model.options.k:
            raise RequestError(400, f"The option k: expected at most the model's {model.options.k}, {answer.k} came.")
        features = bodies.decode(content_type, body, model.options.dimension)
        step = self._step(model, answer, len(features))
        columns: dict[str, list[Any]] = {name: [] for name in answer.columns}
        with self.turns.turn():
            for start in range(0, len(features), step):
                part = features[np.arange(start, min(start + step, len(features)))]
                predictions = model.predict(part, answer.k, answer.nprobe)
                tensors = answer.media_type == mediatype.RECORDIO
                made = Columns(model, predictions, euclidean=self.euclidean, tensors=tensors)
                for name, values in made.of(answer.columns).items():
                    columns[name].extend(values)
        return bodies.encode(answer, columns)

    @staticmethod
    def _step(model: Model, answer: Answer, rows: int) -> int:
        """How many rows to search for at a time: of ordinary requests all.

        Memory must not grow with rows times k, times the dimension or times the classes.

        Raises:
            RequestError: 400, the answer itself would be too large.
        """
        k = answer.k or model.options.k
        classes = len(model.classes) if model.classes is not None else 0
        asked = set(answer.columns)
        numbers = k * bool(asked & {DISTANCES, LABELS, IDS}) + classes * bool(asked & {PROBABILITIES, CLASSES})
        if rows * numbers > _MOST_NUMBERS:
            raise RequestError(
                400,
                f"{rows} rows with {numbers} numbers each: expected at most {_MOST_NUMBERS} in an answer. "
                "Send fewer rows.",
            )
        counted = classes * bool(asked & {PROBABILITY, PROBABILITIES, CLASSES})
        return max(1, _BLOCK // max(model.options.dimension, k, counted))
