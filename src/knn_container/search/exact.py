"""The exact nearest neighbours of a flat index, by whichever engine is fastest on its rows."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

import faiss
import numpy as np

from knn_container.batch import BoolArray, Float32Array
from knn_container.index import use_matrix_products
from knn_container.metric import Metric, nearest, row_lengths, unit_rows
from knn_container.search.engines import KD_TREE, PRODUCTS, SCAN, Engine, Flat, KDTree
from knn_container.search.neighbours import SPARE, Neighbours, parts, slices

AUTO = "auto"
_GROWTH = 16
_PRODUCTS_FROM = 8  # queries from which matrix products are faster than comparing row by row
_TRIAL = 64  # queries that show whether matrix products settle most answers
_BATCHES = (1, 16, 256)  # queries in a batch for which engines are compared
_SMALLEST = {1: 0, 16: 4, 256: 64}  # queries from which what was found for such a batch is used
_FEWEST = 4096  # rows from which a tree may pay
_TRIAL_ROWS, _TRIAL_NUMBERS = 1 << 13, 1 << 20  # of the small tree that lets expect how fast a large one is
_WORTH = 1.5  # times the speed of a scan from which a tree is built

log = logging.getLogger(__name__)


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
        use_matrix_products()
        self._metric = metric
        self._rows: Float32Array = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(
            index.ntotal, index.d
        )
        self._index = index  # owns the memory of `_rows`
        flat = _unit_index(self._rows) if metric is Metric.COSINE else index
        longest = max((float(row_lengths(block).max()) for block in slices(self._rows)), default=0.0)
        self._scan = Flat(flat, metric, longest, products=False)
        self._products = Flat(flat, metric, longest, products=True)
        self._plan = self._choose(engine)
        self._may_change = engine == AUTO and metric is not Metric.INNER_PRODUCT

    def __call__(self, queries: Float32Array, k: int, nprobe: int | None = None) -> Neighbours:  # noqa: ARG002
        """Finds the k nearest rows of each of (n, d) finite queries."""
        return self._search(next(engine for start, engine in self._plan if len(queries) >= start), queries, k)

    def speed_up(self, room: int) -> None:
        """As `Search.speed_up`: a k-d tree, where a trial on some of the rows lets expect that it pays."""
        if self._may_change and self._tree_fits(room) and self._tree_may_pay():
            threading.Thread(target=self._grow_tree, name="k-d tree", daemon=True).start()

    def _search(self, engine: Engine, queries: Float32Array, k: int) -> Neighbours:
        rows = np.full((len(queries), k), -1, np.int64)
        values = np.zeros((len(queries), k), np.float32)
        pending, wanted = np.arange(len(queries)), k + engine.spare
        while len(pending):
            found, certain = self._attempt(engine, queries[pending], k, wanted)
            kept = found.rows.shape[1]
            rows[pending[certain], :kept] = found.rows[certain]
            values[pending[certain], :kept] = found.values[certain]
            pending = pending[~certain]
            wanted = wanted * _GROWTH if engine is self._scan else k + SPARE
            engine = self._scan
        return Neighbours(rows, values)

    def _attempt(self, engine: Engine, queries: Float32Array, k: int, wanted: int) -> tuple[Neighbours, BoolArray]:
        """Searches with `wanted` candidates; says for which queries the answer is certain."""
        if 4 * wanted >= len(self._rows):
            return self._among_all(queries, min(k, len(self._rows))), np.ones(len(queries), bool)
        last, candidates = engine.propose(queries, wanted)
        compared = [
            self._metric.between(queries[part], self._rows[candidates[part]])
            for part in parts(len(queries), wanted * self._index.d)
        ]
        values, rows = nearest(self._metric, np.concatenate(compared), candidates, k)
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

    def _choose(self, engine: str) -> list[tuple[int, Engine]]:
        """The engine by the smallest batch that it is used for, largest first."""
        if engine == KD_TREE and self._metric is not Metric.INNER_PRODUCT and len(self._rows):
            return [(0, KDTree(self._rows, self._metric))]
        if engine == SCAN or (engine != PRODUCTS and not self._products_settle()):
            return [(0, self._scan)]
        if engine == PRODUCTS:
            return [(0, self._products)]
        return [(_PRODUCTS_FROM, self._products), (0, self._scan)]

    def _some_rows(self, count: int) -> Float32Array:
        """Rows from all over the index, as queries."""
        return self._rows[:: max(1, len(self._rows) // count)][:count]

    def _products_settle(self) -> bool:
        """Whether matrix products settle most queries on these rows: on data far from the origin they don't."""
        queries = self._some_rows(_TRIAL)
        k = min(SPARE, len(self._rows))
        _, certain = self._attempt(self._products, queries, k, k + SPARE)
        return 2 * int(certain.sum()) > len(queries)

    def _tree_fits(self, room: int) -> bool:
        return len(self._rows) >= _FEWEST and KDTree.bytes_needed(*self._rows.shape) <= room

    def _tree_may_pay(self) -> bool:
        """Whether a tree of some rows, and one of fewer, let expect that one of all rows beats brute force."""
        count = min(_TRIAL_ROWS, _TRIAL_NUMBERS // self._rows.shape[1])
        sample = self._some_rows(count)
        queries = self._rows[1 :: max(1, len(self._rows) // _TRIAL)][:_TRIAL]
        small, large = (
            _seconds(partial(KDTree(rows, self._metric).propose, queries, SPARE)) / len(queries)
            for rows in (sample[::4], sample)
        )
        growth = min(1.0, max(0.0, np.log(large / small) / np.log(4)))
        expected = large * (len(self._rows) / len(sample)) ** growth
        scan = _seconds(partial(self._scan.propose, queries[:1], SPARE))
        pays = expected < scan / _WORTH
        log.info(
            "Exact search: a row-by-row scan takes %.2f ms a query, a k-d tree %.2f ms by a trial on %d rows%s.",
            1000 * scan,
            1000 * expected,
            len(sample),
            "; it is being built" if pays else "",
        )
        return bool(pays)

    def _grow_tree(self) -> None:
        """Builds the tree, compares it with what there is, and uses it where it is faster."""
        started = time.perf_counter()
        tree = KDTree(self._rows, self._metric)
        built = time.perf_counter() - started
        plan: list[tuple[int, Engine]] = []
        for batch in reversed(_BATCHES):
            queries = self._some_rows(batch)
            usual = next(engine for start, engine in self._plan if batch >= start)
            seconds = {engine.name: _seconds(partial(self._search, engine, queries, SPARE)) for engine in (usual, tree)}
            best: Engine = min((usual, tree), key=lambda engine: seconds[engine.name])
            plan.append((_SMALLEST[batch], best))
            figures = ", ".join(f"{name} {1000 * took:.2f} ms" for name, took in seconds.items())
            log.info("Exact search of %d queries: %s; taking %s.", batch, figures, best.name)
        self._plan = plan
        log.info("A k-d tree was built in %.1f s.", built)


def _seconds(work: Callable[[], object]) -> float:
    """How long something takes at best, of three times."""
    took = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return min(took)


def _unit_index(rows: Float32Array) -> faiss.IndexFlat:
    index = faiss.IndexFlat(rows.shape[1], faiss.METRIC_INNER_PRODUCT)
    for block in slices(rows):
        index.add(unit_rows(block))
    return index
