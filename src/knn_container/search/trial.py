"""Which engine is fastest on the rows at hand: a short trial, and what it lets expect to pay is built and timed too.

Nothing of it enters a model, and no answer depends on it.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from knn_container.batch import Float32Array
from knn_container.metric import Metric
from knn_container.search.certified import Proposer
from knn_container.search.engines import GPU, SCAN, Engine
from knn_container.search.kd_tree import KDTree
from knn_container.search.neighbours import Share, Timing
from knn_container.search.projections import Projections

# The smallest batch that engines are used for, largest first: one for up to `FEW` neighbours, and one for more.
Plan = list[tuple[int, Engine, Engine]]

_BATCHES = {256: 64, 16: 4, 1: 0}  # queries in a batch, and from how many on what was found for it is used
_NEIGHBOURS, FEW = 16, 48
_SLOWED = 3  # times that an engine which leaves rows out may take as long for more neighbours, beside brute force
_SECONDS = 0.3  # for the engines that need no building
_ENOUGH, _AGAIN = 0.02, 0.06  # for one of them and a batch, and up to which one moment is not to decide
_HOPELESS = 2.5  # times as slow as another engine, from which one is not tried with as many queries, or with more
_FEWEST = 4096  # rows from which building may pay
_WORTH = 3  # times the speed from which a tree is built, since what is expected of it is rough
_LINEAR = 0.75  # power of the number of rows from which a tree leaves out too few
_WORTH_SECONDS = 0.5  # of a job's searches from which something is built

log = logging.getLogger(__name__)


class Trial:
    """Times engines on rows of the index, batch by batch.

    Args:
        rows: (n, d) of the index.
        metric: what makes them near.
        on_card: gives the engine of a GPU, if there is one.
        certified: makes an engine of what proposes candidates.
    """

    def __init__(
        self,
        rows: Float32Array,
        metric: Metric,
        on_card: Callable[[], Engine | None],
        certified: Callable[[Proposer], Engine],
    ) -> None:
        self._rows = rows
        self._metric = metric
        self._on_card = on_card
        self._certified = certified
        self._seconds: dict[int, dict[Engine, float]] = {batch: {} for batch in _BATCHES}
        self._usual: Sequence[Engine] = ()

    def compare(self, usual: Sequence[Engine]) -> tuple[Plan, tuple[Timing, ...]]:
        """Times engines that need no building.

        Args:
            usual: the first is used for batches that take too long to be timed.

        Returns:
            The best plan, and all timings.
        """
        started = time.perf_counter()
        self._usual = usual
        for batch in reversed(_BATCHES):
            for engine in usual:
                if self._is_affordable(engine, batch, time.perf_counter() - started):
                    self._time(engine, batch)
        return self._result()

    def build(self, room: int, queries: int | None, share: Share) -> Iterator[tuple[Plan, tuple[Timing, ...]]]:
        """Builds other engines where these may pay, and times them; to be called after `compare`.

        Beside other work an engine looks slower than it is: it is then taken too rarely, not too often.

        Args:
            room: as `Search.speed_up` takes it, like what follows.
            queries: that will be asked.
            share: gives memory.

        Yields:
            The best plan so far, and all timings.
        """
        if self._may_pay(queries):
            for build in (self._on_card, partial(self._tree, room, share), partial(self._projections, room)):
                if built := self._build(build):
                    result = self._result()
                    yield result
                    if all(engine is built for _, engine, _ in result[0]):
                        break
        self._log()

    def _build(self, build: Callable[[], Engine | None]) -> Engine | None:
        """Builds an engine and times it beside the best there is, as long as it may win."""
        started = time.perf_counter()
        built = build()
        if built is None:
            return None
        log.info("Exact search: %s was built in %.1f s.", built.name, time.perf_counter() - started)
        rival: Engine | None = None
        for batch in reversed(_BATCHES):
            if rival and not self._seconds[batch]:
                self._time(rival, batch)
            self._time(built, batch)
            found = self._seconds[batch]
            if found[built] > (16 if built.name == GPU else _HOPELESS) * self._best(batch):
                break
            rival = min(found, key=found.__getitem__)
        return built

    def _best(self, batch: int) -> float:
        return min(self._seconds[batch].values(), default=np.inf)

    def _is_affordable(self, engine: Engine, batch: int, spent: float) -> bool:
        """Whether an engine may win with a batch, and can be timed in the time that is left."""
        if batch == 1:
            return True
        smaller = self._seconds[batch // 16]
        if engine not in smaller:
            return False
        # From some queries on the scan's time grows as they do: it need not be measured to be known.
        growth = (16 if batch > 16 else 8) if engine.name == SCAN else 3
        if engine.name == SCAN and growth * smaller[engine] > _HOPELESS * self._best(batch):
            return False
        return spent + growth * smaller[engine] < _SECONDS

    def _time(self, engine: Engine, batch: int) -> None:
        """Notes how long a batch takes at best, of at most three times, and of two at least if these are short.

        What its queries take in smaller batches counts if that is less, so that no pause of the machine decides.
        """
        queries = np.ascontiguousarray(self._rows[:: max(1, len(self._rows) // batch)][:batch])
        took: list[float] = []
        while len(took) < 3 and sum(took) < (_AGAIN if len(took) < 2 else _ENOUGH):
            took.append(_seconds(partial(engine.search, queries, _NEIGHBOURS)))
        in_parts = 16 * self._seconds[batch // 16].get(engine, np.inf) if batch > 1 else np.inf
        self._seconds[batch][engine] = min(*took, in_parts)

    def _result(self) -> tuple[Plan, tuple[Timing, ...]]:
        best = {batch: min(found, key=found.__getitem__) for batch, found in self._seconds.items() if found}
        timings = [
            Timing(engine.name, batch, took, engine is best[batch])
            for batch, found in reversed(self._seconds.items())
            for engine, took in found.items()
        ]
        plan = []
        for batch, start in _BATCHES.items():
            found = {engine: took * self._slowed(engine) for engine, took in self._seconds[batch].items()}
            many = min(found, key=found.__getitem__) if found else self._usual[0]
            plan.append((start, best.get(batch, self._usual[0]), many))
        return plan, tuple(timings)

    def _slowed(self, engine: Engine) -> int:
        return 1 if engine in self._usual or engine.name == GPU else _SLOWED

    def _log(self) -> None:
        plan, timings = self._result()
        for batch in reversed(_BATCHES):
            if here := [it for it in timings if it.queries == batch]:
                figures = ", ".join(f"{it.engine} {1000 * it.seconds:.2f} ms" for it in here)
                taken = next(it.engine for it in here if it.chosen)
                log.info("Exact search of %d queries: %s; taking %s.", batch, figures, taken)
        log.info("Exact search: %s settled.", " and ".join(dict.fromkeys(engine.name for _, engine, _ in plan)))

    def _may_pay(self, queries: int | None) -> bool:
        """Whether so many queries take long enough for something to be built."""
        batch, found = next((batch, found) for batch, found in self._seconds.items() if found)
        return len(self._rows) >= _FEWEST and (
            queries is None or queries * min(found.values()) / batch > _WORTH_SECONDS
        )

    def _tree(self, room: int, share: Share) -> Engine | None:
        """A tree, if what is expected of it beats brute force."""
        if self._metric is Metric.INNER_PRODUCT or KDTree.bytes_needed(*self._rows.shape) > room:
            return None
        expected, growth = KDTree.expect(self._rows, self._metric, _NEIGHBOURS)
        usual = self._best(1)
        pays = growth < _LINEAR and expected < usual / _WORTH
        log.info(
            "Exact search: one query takes %.2f ms, with a k-d tree about %.2f ms%s.",
            1000 * usual,
            1000 * expected,
            "; it is being built" if pays else "",
        )
        return self._certified(KDTree(self._rows, self._metric, share)) if pays else None

    def _projections(self, room: int) -> Engine | None:
        """Projections, if the rows have few strong directions."""
        if self._metric is not Metric.L2 or Projections.bytes_needed(*self._rows.shape) > room:
            return None
        return Projections(self._rows) if Projections.may_pay(self._rows) else None


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
