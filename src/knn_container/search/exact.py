"""The exact nearest neighbours of a flat index, whatever engine proposes them."""

from functools import partial

import faiss
import numpy as np

from knn_container.batch import BoolArray, Float32Array
from knn_container.metric import Metric, nearest
from knn_container.search.engines import KD_TREE, PROJECTIONS, SCAN, Engine, Scan
from knn_container.search.gpu_flat import flat_on_card
from knn_container.search.kd_tree import KDTree
from knn_container.search.neighbours import SPARE, Neighbours, Share, Timing, own_memory, parts, slices
from knn_container.search.products import Products
from knn_container.search.projections import Projections
from knn_container.search.threads import spread
from knn_container.search.trial import Trial

AUTO = "auto"
_GROWTH = 16
_CANDIDATES, _NUMBERS = 1 << 22, 1 << 23  # that are held at a time, and their features
_LARGE = 1 << 20  # numbers in the rows from which matrix products are faster for one query too
_MANY = 8  # queries from which they are anyway
_SAMPLE = 16  # queries that show whether matrix products settle most answers
_WORTH_A_THREAD = 128  # queries whose candidates are compared


class ExactSearch:
    """The exact nearest neighbours of a flat index.

    An engine gives k candidates and some more. Queries whose answer they do not hold for certain are asked again, row
    by row and with more candidates, in the end with all rows: so the answer is the same, whatever the engine.

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
        self._bytes = self._rows.view(np.uint8)  # may be taken from without regard to alignment
        self._index = index  # owns the memory of `_rows`
        self._products = Products(self._rows, metric)
        # Without a subtraction, a scan has no digits that matrix products lose.
        self._last_resort: Engine = Scan(index) if metric is Metric.L2 else self._products
        self._plan = self._first_plan(engine)
        self._may_change = engine == AUTO
        self._timings: tuple[Timing, ...] = ()

    def __call__(self, queries: Float32Array, k: int, nprobe: int | None = None) -> Neighbours:  # noqa: ARG002
        """Finds the k nearest rows of each of (n, d) finite queries."""
        return self.search(next(engine for start, engine in self._plan if len(queries) >= start), queries, k)

    def speed_up(self, room: int, queries: int | None = None, share: Share = own_memory) -> None:
        """As `Search.speed_up`, by a trial of the engines."""
        if not self._may_change or not len(self._rows):
            return
        on_card = partial(flat_on_card, self._index, self._rows, self._metric, self._without_card)
        trial = Trial(self._rows, self._metric, self.search, on_card)
        usual = list(dict.fromkeys(engine for _, engine in [*self._plan, (0, self._last_resort)]))
        for self._plan, self._timings in trial.run(usual, room, queries, share):
            pass  # searches under way go on with the plan that they began with

    def _without_card(self) -> None:
        self._plan = self._first_plan(AUTO)

    @property
    def timings(self) -> tuple[Timing, ...]:
        """As `Search.timings`."""
        return self._timings

    def search(self, engine: Engine, queries: Float32Array, k: int) -> Neighbours:
        """Finds neighbours with an engine, which does not change them."""
        return self._search(engine, queries, k, k + engine.spare)

    def _search(self, engine: Engine, queries: Float32Array, k: int, wanted: int) -> Neighbours:
        if len(queries) * wanted > _CANDIDATES and len(queries) > 1:
            step = max(1, _CANDIDATES // wanted)
            some = [
                self._search(engine, queries[start : start + step], k, wanted) for start in range(0, len(queries), step)
            ]
            return Neighbours(np.concatenate([it.rows for it in some]), np.concatenate([it.values for it in some]))
        found, certain = self._attempt(engine, queries, k, wanted)
        if found.rows.shape[1] < k:
            missing = ((0, 0), (0, k - found.rows.shape[1]))
            return Neighbours(np.pad(found.rows, missing, constant_values=-1), np.pad(found.values, missing))
        if certain.all():
            return found
        if engine is self._last_resort:
            wanted *= _GROWTH
        elif wanted < k + SPARE:
            wanted = k + SPARE
        else:
            engine = self._last_resort
        again = self._search(engine, queries[~certain], k, wanted)
        found.rows[~certain], found.values[~certain] = again.rows, again.values
        return found

    def _attempt(self, engine: Engine, queries: Float32Array, k: int, wanted: int) -> tuple[Neighbours, BoolArray]:
        """Searches with `wanted` candidates; says for which queries the answer is certain."""
        if 4 * wanted >= len(self._rows) or wanted * self._rows.shape[1] > _NUMBERS:
            return self._among_all(queries, min(k, len(self._rows))), np.ones(len(queries), bool)
        last, candidates = engine.propose(queries, wanted)
        rows = np.empty((len(queries), k), np.int64)
        values = np.empty((len(queries), k), np.float32)

        def compare(part: slice) -> None:
            for block in parts(part.stop - part.start, wanted * self._rows.shape[1]):
                here = slice(part.start + block.start, part.start + block.stop)
                rows_here = self._bytes.take(candidates[here], axis=0).view(np.float32)
                compared = self._metric.between(queries[here], rows_here)
                values[here], rows[here] = nearest(self._metric, compared, candidates[here], k)

        spread(compare, len(queries), _WORTH_A_THREAD)
        worst = values[:, -1]
        limit = engine.limit(queries, worst, last)
        certain = worst > limit if self._metric.is_similarity else worst < limit
        # Where float32 overflows, FAISS leaves candidates out.
        return Neighbours(rows, values), certain & (candidates >= 0).all(axis=1)

    def _among_all(self, queries: Float32Array, k: int) -> Neighbours:
        numbers = np.arange(len(self._rows))[np.newaxis]
        best = [Neighbours(np.empty((0, k), np.int64), np.empty((0, k), np.float32))]
        for part in parts(len(queries), len(self._rows)):
            compared = [self._metric.between(queries[part], block) for block in slices(self._rows, len(queries[part]))]
            values = np.concatenate(compared, axis=1)
            kept, chosen = nearest(self._metric, values, np.broadcast_to(numbers, values.shape), k)
            best.append(Neighbours(chosen, kept))
        return Neighbours(np.concatenate([n.rows for n in best]), np.concatenate([n.values for n in best]))

    def _first_plan(self, engine: str) -> list[tuple[int, Engine]]:
        """The engine by the smallest batch that it is used for, largest first; before there is a trial."""
        if engine == KD_TREE and self._metric is not Metric.INNER_PRODUCT and len(self._rows):
            return [(0, KDTree(self._rows, self._metric))]
        if engine == PROJECTIONS and self._metric is Metric.L2 and len(self._rows):
            return [(0, Projections(self._rows))]
        if engine == SCAN or (engine == AUTO and not self._products_settle()):
            return [(0, self._last_resort)]
        if engine == AUTO and self._rows.size < _LARGE:
            return [(_MANY, self._products), (0, self._last_resort)]
        return [(0, self._products)]

    def _products_settle(self) -> bool:
        """Whether matrix products settle most queries on these rows: on data far from the origin they don't."""
        queries = self._rows[:: max(1, len(self._rows) // _SAMPLE)][:_SAMPLE]
        k = min(SPARE, len(self._rows))
        _, certain = self._attempt(self._products, queries, k, k + SPARE)
        return 2 * int(certain.sum()) > len(queries)
