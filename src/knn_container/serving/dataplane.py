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
from knn_container.serving.negotiation import DISTANCES, IDS, LABELS, Answer, Defaults
from knn_container.serving.turns import CpuTurns

_BLOCK = 1 << 22  # numbers that a step holds
_MOST_NEIGHBOURS = 1 << 24  # neighbours in an answer


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
        k = answer.k or model.options.k
        if len(features) * k > _MOST_NEIGHBOURS and set(answer.columns) & {DISTANCES, LABELS, IDS}:
            raise RequestError(
                400,
                f"{len(features)} rows with {k} neighbours each: expected at most {_MOST_NEIGHBOURS} neighbours in an "
                "answer. Send fewer rows.",
            )
        columns: dict[str, list[Any]] = {name: [] for name in answer.columns}
        with self.turns.turn():
            # Of ordinary size, one search; memory must not grow with rows times k or times the dimension.
            step = max(1, _BLOCK // max(model.options.dimension, k))
            for start in range(0, len(features), step):
                part = features[np.arange(start, min(start + step, len(features)))]
                predictions = model.predict(part, answer.k, answer.nprobe)
                made = Columns(
                    model, predictions, euclidean=self.euclidean, tensors=answer.media_type == mediatype.RECORDIO
                )
                for name, values in made.of(answer.columns).items():
                    columns[name].extend(values)
        return bodies.encode(answer, columns)
