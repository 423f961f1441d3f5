"""What the server does with a request, apart from HTTP."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from knn_container.batch import Column, Features
from knn_container.errors import RequestError
from knn_container.formats import mediatype
from knn_container.formats.mediatype import MediaType
from knn_container.model import Model, Predictions
from knn_container.serving import bodies
from knn_container.serving.answers import Columns
from knn_container.serving.gathering import Gatherer
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

_BLOCK = 1 << 20  # numbers that a step of a search holds
_MOST_NUMBERS = 1 << 24  # beside predictions, in an answer
_LITTLE = 32  # rows
_FIRST_STEP, _STEP_SECONDS = 512, 0.05  # of a large request: rows, and what a step may take


class DataPlane:
    """Answers requests; safe to use from several threads at once.

    Attributes:
        turns: at the CPUs.
        defaults: what holds where a request does not say.

    Args:
        euclidean: whether an L2 distance is answered as its root.
    """

    def __init__(self, turns: CpuTurns, defaults: Defaults | None = None, euclidean: bool = False) -> None:
        self.turns = turns
        self.defaults = defaults or Defaults()
        self._euclidean = euclidean
        self._gatherer = Gatherer(turns)

    def invoke(self, model: Model, content_type: MediaType, body: bytes, answer: Answer) -> bytes:
        """Answers one request.

        Raises:
            RequestError: its status says what kind, its text what was expected and what came.
        """
        features = self._decode(model, content_type, body, answer)
        columns: dict[str, list[Any]] = {name: [] for name in answer.columns}
        for predictions in self._predict(model, features, answer):
            for name, values in self._columns(model, predictions, answer).items():
                columns[name].extend(values)
        return bodies.encode(answer, columns)

    def ask(
        self,
        model: Model,
        content_type: MediaType,
        body: bytes,
        answer: Answer,
        deliver: Callable[[bytes | Exception], None],
    ) -> bool:
        """Begins to answer a request without waiting, if that is little work.

        Args:
            model: as for `invoke`, like `content_type`, `body` and `answer`.
            content_type: of the body.
            body: whole.
            answer: how to answer.
            deliver: called with the answer or with what was raised, as `Gatherer.ask` says.

        Returns:
            Whether it has begun.

        Raises:
            RequestError: as `invoke`.
        """
        features = self._decode(model, content_type, body, answer)
        if not 0 < len(features) <= min(_LITTLE, self._step(model, answer, len(features))):
            return False

        def deliver_encoded(predictions: Predictions | Exception) -> None:
            try:
                if isinstance(predictions, Exception):
                    raise predictions
                encoded = bodies.encode(answer, self._columns(model, predictions, answer))
            except Exception as error:
                deliver(error)
            else:
                deliver(encoded)

        self._gatherer.ask(model, features, answer.k, answer.nprobe, deliver_encoded)
        return True

    @staticmethod
    def _decode(model: Model, content_type: MediaType, body: bytes, answer: Answer) -> Features:
        if answer.k is not None and answer.k > model.options.k:
            raise RequestError(400, f"The option k: expected at most the model's {model.options.k}, {answer.k} came.")
        return bodies.decode(content_type, body, model.options.dimension)

    def _columns(self, model: Model, predictions: Predictions, answer: Answer) -> dict[str, Column]:
        tensors = answer.media_type == mediatype.RECORDIO
        return Columns(model, predictions, euclidean=self._euclidean, tensors=tensors).of(answer.columns)

    def _predict(self, model: Model, features: Features, answer: Answer) -> Iterator[Predictions]:
        """Searches in steps, between which other requests have their turn; steps grow while they are quick."""
        largest = self._step(model, answer, len(features))
        start, step = 0, min(largest, _FIRST_STEP)
        while (left := len(features) - start) > 0:
            rows = left if left <= min(largest, 2 * step) else step
            part = features if rows == len(features) else features[np.arange(start, start + rows)]
            began = time.perf_counter()
            yield self._gatherer.predict(model, part, answer.k, answer.nprobe)
            if time.perf_counter() - began < _STEP_SECONDS / 2:
                step = min(largest, 2 * step)
            start += rows

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
