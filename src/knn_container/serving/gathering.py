"""Concurrent requests, gathered into one search."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from knn_container.batch import Features, SparseRows
from knn_container.model import Model, Predictions
from knn_container.search import Neighbours
from knn_container.serving.turns import CpuTurns

log = logging.getLogger(__name__)

Deliver = Callable[[Predictions | Exception], None]
MOST_ROWS = 256  # of requests that are searched for together
_MOST_NUMBERS = 1 << 22  # and of their features or neighbours


@dataclass(eq=False, slots=True)
class _Asked:
    """A request that waits, and what takes its answer."""

    model: Model
    features: Features
    k: int
    nprobe: int | None
    deliver: Deliver

    def goes_with(self, other: "_Asked") -> bool:
        return (
            self.model is other.model
            and (self.k, self.nprobe) == (other.k, other.nprobe)
            and not isinstance(self.features, SparseRows)
            and not isinstance(other.features, SparseRows)
        )


class Gatherer:
    """Searches for what waits, in as few searches as can be, without waiting for more to come.

    While a search is under way, requests gather behind it; the next one takes all that go together, up to a number
    of rows. Each request is answered as it would be alone. The searches run in threads of their own, as many as the
    turns allow, since OpenMP keeps helpers for every thread that it has worked for.

    Args:
        turns: at the CPUs.
    """

    def __init__(self, turns: CpuTurns) -> None:
        self._turns = turns
        self._pool = ThreadPoolExecutor(turns.searches, "search")
        self._lock = threading.Lock()
        self._waiting: deque[_Asked] = deque()
        self._searching = 0  # threads of the pool

    def predict(self, model: Model, features: Features, k: int | None = None, nprobe: int | None = None) -> Predictions:
        """As `Model.predict`, perhaps together with the rows of other requests.

        Raises:
            Exception: what the search raises; another request's rows are not to blame.
        """
        answers: SimpleQueue[Predictions | Exception] = SimpleQueue()
        self.ask(model, features, k, nprobe, answers.put)
        answer = answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, model: Model, features: Features, k: int | None, nprobe: int | None, deliver: Deliver) -> None:
        """As `predict`, without waiting: `deliver` is called with the answer, or with what was raised.

        It is called in a thread that searches, which it should not keep for long.
        """
        asked = _Asked(model, features, k or model.options.k, nprobe, deliver)
        with self._lock:
            self._waiting.append(asked)
            starts = self._searching < self._turns.searches
            self._searching += starts
        if starts:
            self._pool.submit(self._search)

    def _search(self) -> None:
        while group := self._next_group():
            with self._turns.turn():
                answers = list(_answers(group))
            delivers = [asked.deliver for asked in group]
            del group  # and with it the model, which may be unloaded once the answers are there
            for deliver, answer in zip(delivers, answers, strict=True):
                try:
                    deliver(answer)
                except Exception:
                    log.exception("An answer cannot be delivered.")

    def _next_group(self) -> list[_Asked]:
        """Takes the request that has waited longest, and those that go with it."""
        with self._lock:
            if not self._waiting:
                self._searching -= 1
                return []
            first = self._waiting.popleft()
            group, rows, others = [first], len(first.features), deque[_Asked]()
            most = min(MOST_ROWS, _MOST_NUMBERS // max(first.features.shape[1], first.k))
            for asked in self._waiting:
                if first.goes_with(asked) and rows + len(asked.features) <= most:
                    group.append(asked)
                    rows += len(asked.features)
                else:
                    others.append(asked)
            self._waiting = others
            return group


def _answers(group: list[_Asked]) -> Iterator[Predictions | Exception]:
    first = group[0]
    try:
        parts = [asked.features for asked in group]
        features = parts[0] if len(group) == 1 else np.concatenate(parts)  # type: ignore[arg-type]  # none is sparse
        together = first.model.predict(features, first.k, first.nprobe)
    except Exception as error:
        if len(group) == 1:
            yield error
        else:  # whose fault it is shows when each is asked alone
            for asked in group:
                yield from _answers([asked])
        return
    start = 0
    for asked in group:
        stop = start + len(asked.features)
        yield _part(together, start, stop)
        start = stop


def _part(predictions: Predictions, start: int, stop: int) -> Predictions:
    neighbours = predictions.neighbours
    return Predictions(
        predictions.predicted[start:stop],
        Neighbours(neighbours.rows[start:stop], neighbours.values[start:stop]),
        predictions.weights[start:stop],
    )
