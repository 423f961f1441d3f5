"""The exact nearest neighbours of a flat index, whatever engine finds them."""

import faiss
import numpy as np

from knn_container.batch import Float32Array
from knn_container.metric import Metric
from knn_container.search.brute_force import Products, Scan
from knn_container.search.certified import Certified, Proposer
from knn_container.search.engines import KD_TREE, PRODUCTS, PROJECTIONS, SCAN, Engine
from knn_container.search.gpu_flat import flat_on_card
from knn_container.search.kd_tree import KDTree
from knn_container.search.neighbours import Neighbours, Share, Timing, own_memory
from knn_container.search.projections import Projections
from knn_container.search.trial import FEW, Plan, Trial

AUTO = "auto"
_MANY = 8  # queries from which matrix products are faster, before there is a trial


class ExactSearch:
    """The exact nearest neighbours of a flat index.

    Args:
        index: of the rows as they came.
        metric: what makes rows near.
        engine: `auto`, or one of `engines.ENGINES`, which is then used whatever its speed.
    """

    def __init__(self, index: faiss.IndexFlat, metric: Metric, engine: str = AUTO) -> None:
        self._metric = metric
        self._rows: Float32Array = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(
            index.ntotal, index.d
        )
        self._index = index  # owns the memory of `_rows`
        self._scan, self._products = Scan(self._rows, metric), Products(self._rows, metric)
        self._plan = self._first_plan(engine)
        self._may_change = engine == AUTO
        self._timings: tuple[Timing, ...] = ()
        self._trial: Trial | None = None

    def __call__(self, queries: Float32Array, k: int, nprobe: int | None = None) -> Neighbours:  # noqa: ARG002
        """Finds the k nearest rows of each of (n, d) finite queries."""
        few, many = next(engines for start, *engines in self._plan if len(queries) >= start)
        return (few if k <= FEW else many).search(np.ascontiguousarray(queries), k)

    def compare(self) -> None:
        """As `Search.compare`: brute force in two ways."""
        if self._may_change and len(self._rows):
            self._trial = Trial(self._rows, self._metric, self._on_card, self._certified)
            self._plan, self._timings = self._trial.compare((self._products, self._scan))

    def speed_up(self, room: int, queries: int | None = None, share: Share = own_memory) -> None:
        """As `Search.speed_up`: all other engines."""
        if not self._trial:
            self.compare()
        trial, self._trial = self._trial, None  # it knows this search, and holds what it finds slow
        if trial:
            for plan, timings in trial.build(room, queries, share):
                self._plan, self._timings = plan, timings  # searches under way go on with the plan they began with

    def _on_card(self) -> Engine | None:
        on_card = flat_on_card(self._index, self._rows, self._metric, self._without_card)
        return self._certified(on_card) if on_card else None

    def _without_card(self) -> None:
        self._plan = self._first_plan(AUTO)

    def _certified(self, proposer: Proposer) -> Engine:
        return Certified(proposer, self._by_brute_force, self._rows, self._metric)

    def _by_brute_force(self, queries: Float32Array, k: int) -> Neighbours:
        return (self._products if len(queries) >= _MANY else self._scan).search(queries, k)

    @property
    def timings(self) -> tuple[Timing, ...]:
        """As `Search.timings`."""
        return self._timings

    def _first_plan(self, engine: str) -> Plan:
        """The engines before there is a trial."""
        if engine == KD_TREE and self._metric is not Metric.INNER_PRODUCT and len(self._rows):
            return _always(self._certified(KDTree(self._rows, self._metric)))
        if engine == PROJECTIONS and self._metric is Metric.L2 and len(self._rows):
            return _always(Projections(self._rows))
        if engine in (SCAN, PRODUCTS):
            return _always(self._scan if engine == SCAN else self._products)
        return [(_MANY, self._products, self._products), *_always(self._scan)]


def _always(engine: Engine) -> Plan:
    return [(0, engine, engine)]
