"""Chooses the index that answers fastest of those that find as many true neighbours as are asked for.

What is fast is said by the time of a query alone, in one thread: it is what a busy server spends on a row. Recall is
measured as `recall` does, on all rows for whatever is chosen. Where there are many rows, a trial on some of them ranks
the candidates; then they are built of all rows in turn, the fastest first, until one reaches the target.

Exact search is a candidate like the others, on all rows, with the engine that suits them. It is given up for nothing
that is not faster by more than timings vary, and it is what is left if nothing reaches the target, if all else would
take too much memory or time, or if the job is to end.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import faiss
import numpy as np

from knn_container import index
from knn_container.errors import UserError
from knn_container.index import FLAT, HNSW, IVF_FLAT, IVF_PQ, IVF_RABITQ, IVF_SQ_8, SQ_8, SQ_FP16, IndexSpec
from knn_container.metric import Metric
from knn_container.recall import MOST, Recall
from knn_container.reduction import Reduction
from knn_container.sampling import Sample
from knn_container.training.trials import Bench, Plan, Stopped, Trial, Tried

# Types, and inverted lists as a multiple of the square root of the number of rows.
_CANDIDATES = (
    (HNSW, 0),
    (IVF_FLAT, 1),
    (IVF_FLAT, 4),
    (IVF_SQ_8, 1),
    (IVF_SQ_8, 4),
    (SQ_FP16, 0),
    (SQ_8, 0),
    (IVF_PQ, 1),
    (IVF_RABITQ, 1),
)
_CODES = (IVF_SQ_8, IVF_PQ, IVF_RABITQ)  # lists of rows in fewer bits: all lists together need not find all
# One to four bits a column: on Fashion-MNIST, covertype and uniform data they found 0.2 to 0.9 of the neighbours.
_COARSE, _COARSE_TARGET = (IVF_PQ, IVF_RABITQ), 0.9
_TRIAL_ROWS, _TRIAL_NUMBERS = 1 << 14, 1 << 21  # up to so many rows, or numbers in them, a trial is on all
_FASTER = 1.2  # times the speed of exact search: what is no accident of timing
_TOO_SLOW = 1.2  # times the time of the fastest so far: no further lists are looked into
_TRIAL_QUERIES = 256  # that rank the candidates
_LONGEST_TRIAL = 120.0  # seconds, after which no further candidate is tried
_LONGEST_BUILD = 600.0  # seconds that one index may take to build
_GROWTH = 1.2  # of the time to build with the number of rows, as an exponent

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        spec: what the index was built from.
        index: of all rows.
        nprobe: inverted lists to look into; None without such lists.
        reduction: how its rows are projected beyond what the sample's have been; None if they are not.
        recall: as measured; None of an exact index.
        trials: the table.
    """

    spec: IndexSpec
    index: faiss.Index
    nprobe: int | None
    reduction: Reduction | None
    recall: Recall | None
    trials: tuple[Trial, ...]


class Chooser:
    """Tries indexes on a sample.

    Args:
        sample: n rows as a flat index would hold them.
        metric: what makes rows near.
        k: neighbours that are asked for.
        target: the recall that is asked for; of 1 nothing but exact search is sure.
        seed: of k-means and of all that is drawn at random.
        room: how many bytes an index may take besides what is there.
        stopped: whether the job is to end.
        reduced: whether the rows have been projected; else a candidate may project them.
    """

    def __init__(
        self,
        sample: Sample,
        metric: Metric,
        k: int,
        target: float,
        *,
        seed: int = 0,
        room: Callable[[], int],
        stopped: Callable[[], bool] = lambda: False,
        reduced: bool = False,
    ) -> None:
        self._sample = sample
        self._metric = metric
        self._k = k
        self._target = target
        self._seed = seed
        self._room = room
        self._stopped = stopped
        self._reduced = reduced
        self._started = time.monotonic()
        self._table: list[Trial] = []
        self._exact = Trial(FLAT, len(sample))
        self._best: Tried | None = None
        # Product quantisation takes L2 alone.
        self._candidates = [it for it in _CANDIDATES if metric is Metric.L2 or it[0] != IVF_PQ]

    def choose(self) -> Choice:
        """Makes the choice.

        Raises:
            UserError: as `index.build` of a flat index.
        """
        try:
            if len(self._sample) > 1 and not self._stopped():
                self._try_all()
        except Stopped:
            log.warning("The job is to end: no further index is tried.")
        line = self._best.line if self._best else self._exact
        chosen = replace(line, chosen=True)
        table = tuple(chosen if it is line else it for it in self._table) or (chosen,)
        log.info("Chosen: %s.", chosen)
        if best := self._best:
            return Choice(best.plan.spec, best.index, chosen.nprobe, best.plan.reduction, best.recall, table)
        spec = IndexSpec(FLAT, self._metric, seed=self._seed)
        flat = index.build(spec, len(self._sample), self._sample.features.shape[1], self._sample.blocks)
        return Choice(spec, flat, None, None, None, table)

    def _try_all(self) -> None:
        bench = self._bench(self._sample, MOST)
        self._exact = self._note(bench.time_exact(self._room()))
        small = self._few_rows()
        if small is self._sample:
            for kind, lists in self._candidates:
                if (tried := self._try(bench, kind, lists)) and self._is_faster(tried):
                    self._best = tried
            return
        for kind, lists, nprobe in self._ranked(self._bench(small, _TRIAL_QUERIES)):
            if tried := self._try(bench, kind, lists, nprobe):
                self._best = tried if self._is_faster(tried) else None
                return

    def _ranked(self, bench: Bench) -> list[tuple[str, int, int]]:
        """The candidates that reach the target on some of the rows, the fastest first, and in how many lists.

        None gets faster with more rows, or finds as many neighbours in fewer lists.
        """
        growth, reached = (len(self._sample) / bench.rows) ** _GROWTH, []
        for kind, lists in self._candidates:
            tried = self._try(bench, kind, lists)
            if tried and self._is_faster(tried):
                if (seconds := growth * (tried.line.build_seconds or 0)) <= _LONGEST_BUILD:
                    reached.append((tried.line.milliseconds, (kind, lists, tried.line.nprobe or 1)))
                    continue
                why = f"it would take {seconds:.0f} s to build"
                self._note(Trial.of(tried.plan.spec, len(self._sample), left_out=why))
        return [candidate for _, candidate in sorted(reached)]

    def _try(self, bench: Bench, kind: str, lists: int, fewest: int = 0) -> Tried | None:
        """Builds an index and measures it, with ever more lists until it reaches the target or is too slow.

        Args:
            bench: of all rows or of some.
            kind: the index type.
            lists: as `Bench.plan` takes them.
            fewest: lists to look into, as a trial has found; 0 if this is the trial, which has to find out first
                whether all lists together reach the target.

        Returns:
            The index as it reached the target; None if it did not.
        """
        if self._stopped():
            raise Stopped
        plan = bench.plan(kind, lists)
        try:
            if why := self._obstacle(plan, bench.rows, is_trial=not fewest):
                raise UserError(why)
            built = bench.build(plan)
        except UserError as error:
            self._note(Trial.of(plan.spec, bench.rows, left_out=str(error)))
            return None
        if not fewest and kind in _CODES and not self._reaches(bench.measure(built, built.index.nlist, self._target)):
            return None
        for nprobe in _probes(built.index, fewest):
            tried = bench.measure(built, nprobe, self._target)
            if self._reaches(tried):
                return tried
            if (tried.line.milliseconds or 0) > _TOO_SLOW * self._milliseconds():
                return None
        return None

    def _obstacle(self, plan: Plan, rows: int, *, is_trial: bool) -> str:
        """Why an index is not to be built; empty if it is."""
        if (needed := plan.bytes_needed(rows)) > self._room():
            return f"it would take {needed} bytes of memory"
        if plan.spec.index_type in _COARSE and self._target > _COARSE_TARGET:
            return f"its codes are too coarse for a target above {_COARSE_TARGET}"
        if is_trial and (seconds := time.monotonic() - self._started) > _LONGEST_TRIAL:
            return f"the trial had taken {seconds:.0f} s"
        return ""

    def _reaches(self, tried: Tried) -> bool:
        return self._note(tried.line).reached and self._target < 1

    def _is_faster(self, tried: Tried) -> bool:
        margin = 1 if self._best else _FASTER
        return margin * (tried.line.milliseconds or 0) < self._milliseconds()

    def _milliseconds(self) -> float:
        """Of the fastest so far."""
        return (self._best.line if self._best else self._exact).milliseconds or 0

    def _few_rows(self) -> Sample:
        """Some of the rows, drawn at random; all of them if there are few."""
        rows, width = self._sample.features.shape
        few = max(_TRIAL_ROWS, _TRIAL_NUMBERS // width)
        if rows <= few:
            return self._sample
        chosen = np.sort(np.random.default_rng(self._seed).choice(rows, few, replace=False))
        order = self._sample.order
        features = self._sample.features[chosen if order is None else order[chosen]]
        return Sample(features, self._sample.labels[chosen], self._sample.ids[chosen], None, rows)

    def _bench(self, sample: Sample, queries: int) -> Bench:
        return Bench(
            sample,
            self._metric,
            self._k,
            self._seed,
            queries=queries,
            reduced=self._reduced,
            stopped=self._stopped,
        )

    def _note(self, line: Trial) -> Trial:
        self._table.append(line)
        log.info("Trial of %s.", line)
        return line


def _probes(built: faiss.Index, fewest: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, ... lists, from `fewest` on, and all."""
    if not isinstance(built, faiss.IndexIVF):
        return [1]
    steps = {number << power for power in range(built.nlist.bit_length()) for number in (2, 3)}
    return sorted({built.nlist} | {step for step in {1} | steps if fewest <= step < built.nlist})
