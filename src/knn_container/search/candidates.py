"""The search of an approximate index: FAISS proposes candidates, `metric` orders them."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

import faiss
import numpy as np

from knn_container import gpu
from knn_container.batch import Float32Array, Int64Array
from knn_container.index import largest_value
from knn_container.metric import Metric, nearest, unit_rows
from knn_container.search.neighbours import SPARE, Neighbours, Share, Timing, direct_scan, own_memory, parts

_EF_SEARCH = 64  # HNSW's candidate list, at least; Malkov and Yashunin's ef
_TRIAL = (1, 16, 256)  # queries in a batch for which the CPU and a GPU are compared
_FEW = 1024  # queries of a job that are not worth a copy on a GPU

Proposals = tuple[Float32Array, Int64Array]

log = logging.getLogger(__name__)


class CandidateSearch:
    """The nearest rows among those that an approximate index proposes.

    The values are those of the rows as the index holds them: under quantisation, of the decoded rows. Where
    decoding is coarser than the index's own estimate of a distance (RaBitQ), they are these estimates.

    A GPU may propose in place of the CPU, from the same lists: only where more rows than are fetched beyond k lie
    within its rounding of the last one can it propose others.
    """

    def __init__(self, index: faiss.Index, metric: Metric, nprobe: int, zero_rows: Sequence[int] = ()) -> None:
        self._index = index
        self._metric = metric
        self._nprobe = nprobe
        self._zero_rows = np.array(zero_rows, np.int64)
        self._is_ivf = isinstance(index, faiss.IndexIVF)
        self._estimates = isinstance(index, faiss.IndexIVFRaBitQ)
        self._largest = largest_value(index.d)
        self._on_card: tuple[gpu.ListsOnCard, int] | None = None  # and the smallest batch that it is used for
        if self._is_ivf:
            index.make_direct_map()

    def __call__(self, queries: Float32Array, k: int, nprobe: int | None = None) -> Neighbours:
        """Finds the k nearest rows of each of (n, d) finite queries among those proposed."""
        wanted = k + SPARE
        rows, values = [np.empty((0, k), np.int64)], [np.empty((0, k), np.float32)]
        for proposed in parts(len(queries), wanted):
            estimates, candidates = self._candidates(queries[proposed], wanted, nprobe or self._nprobe)
            for part in parts(len(candidates), wanted * self._index.d):
                found = self._order(queries[proposed][part], estimates[part], candidates[part], k)
                rows.append(found.rows)
                values.append(found.values)
        return Neighbours(np.concatenate(rows), np.concatenate(values))

    @property
    def timings(self) -> tuple[Timing, ...]:
        """As `Search.timings`: no engines of exact search are compared."""
        return ()

    def compare(self) -> None:
        """As `Search.compare`: there is nothing to choose from."""

    def speed_up(
        self,
        room: int,  # noqa: ARG002 (it takes a GPU's memory, not the machine's)
        queries: int | None = None,
        share: Share = own_memory,  # noqa: ARG002
    ) -> None:
        """As `Search.speed_up`: a copy of inverted lists on a GPU, if there is one and it proves faster."""
        if queries is None or queries > _FEW:
            self._use_card()

    def _order(self, queries: Float32Array, estimates: Float32Array, candidates: Int64Array, k: int) -> Neighbours:
        compared = (
            estimates + np.float32(0) if self._estimates else self._metric.between(queries, self._decode(candidates))
        )
        if self._metric is Metric.COSINE:
            nowhere = ~queries.any(axis=1, keepdims=True) | np.isin(candidates, self._zero_rows)
            compared = np.where(nowhere, np.float32(0), compared)
        best, chosen = nearest(self._metric, compared, candidates, k)
        return Neighbours(chosen, best)

    def _candidates(self, queries: Float32Array, wanted: int, nprobe: int) -> Proposals:
        scaled = unit_rows(queries) if self._metric is Metric.COSINE else queries
        scaled = scaled.clip(-self._largest, self._largest)
        values, rows = self._propose(scaled, wanted, nprobe)
        lost = rows[:, 0] < 0
        if self._is_ivf and lost.any():  # every list probed is empty
            values[lost], rows[lost] = self._propose_on_cpu(scaled[lost], wanted, self._index.nlist)
        return (np.maximum(values, 0) if self._metric is Metric.L2 else values), rows

    def _propose(self, queries: Float32Array, wanted: int, nprobe: int) -> Proposals:
        on_card = self._on_card
        if on_card and len(queries) >= on_card[1] and gpu.ListsOnCard.takes(wanted, nprobe):
            try:
                return self._propose_on_card(on_card[0], queries, wanted, nprobe)
            except gpu.FAILURES as error:
                self._on_card = None
                log.warning("The CPU searches from now on: %s", error)
        return self._propose_on_cpu(queries, wanted, nprobe)

    def _propose_on_cpu(self, queries: Float32Array, wanted: int, nprobe: int) -> Proposals:
        values, rows = self._index.search(queries, wanted, params=self._parameters(wanted, nprobe))
        return values, rows

    def _propose_on_card(self, lists: gpu.ListsOnCard, queries: Float32Array, wanted: int, nprobe: int) -> Proposals:
        """Has the CPU choose the lists, row by row as in its own search, and a GPU look into them."""
        probed = min(nprobe, self._index.nlist)
        distances, numbers = self._index.quantizer.search(queries, probed, params=direct_scan())
        return lists.search(queries, wanted, numbers, distances)

    def _parameters(self, wanted: int, nprobe: int) -> faiss.SearchParameters | None:
        if self._is_ivf:
            return faiss.SearchParametersIVF(nprobe=min(nprobe, self._index.nlist), quantizer_params=direct_scan())
        if isinstance(self._index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(efSearch=max(_EF_SEARCH, wanted))
        return None

    def _decode(self, candidates: Int64Array) -> Float32Array:
        decoded = np.zeros((candidates.size, self._index.d), np.float32)
        found = candidates.ravel() >= 0
        decoded[found] = self._index.reconstruct_batch(candidates.ravel()[found])
        return decoded.reshape(*candidates.shape, self._index.d)

    def _use_card(self) -> None:
        """Copies the index to a GPU, if one can search it, and uses the copy for the batches where it is faster."""
        card = gpu.find()
        if card is None:
            return
        try:
            if reason := self._obstacle(card):
                log.info("The CPU searches: %s.", reason)
                return
            self._try(gpu.ListsOnCard(card, self._index))
        except gpu.FAILURES as error:
            log.warning("The CPU searches: %s", error)

    def _obstacle(self, card: gpu.Card) -> str | None:
        nprobe = min(self._nprobe, self._index.nlist) if self._is_ivf else 0
        if nprobe and not gpu.ListsOnCard.takes(SPARE, nprobe):
            return f"FAISS's code for GPUs looks into {gpu.LARGEST} lists at most, nprobe is {nprobe}"
        return gpu.obstacle(card, self._index)

    def _try(self, lists: gpu.ListsOnCard) -> None:
        count = min(_TRIAL[-1], self._index.ntotal)
        queries = self._index.reconstruct_batch(np.linspace(0, self._index.ntotal - 1, count).astype(np.int64))
        smallest, figures = None, []
        for batch in reversed(_TRIAL):
            asked = queries[:batch]
            cpu = _seconds(partial(self._propose_on_cpu, asked, 2 * SPARE, self._nprobe))
            card = _seconds(partial(self._propose_on_card, lists, asked, 2 * SPARE, self._nprobe))
            figures.append(f"{len(asked)} queries {1000 * cpu:.2f} ms and {1000 * card:.2f} ms")
            if card >= cpu:
                break
            smallest = batch
        if smallest is not None:
            self._on_card = lists, smallest
        used = f"it searches for {smallest} queries or more" if smallest else "the CPU searches"
        log.info("Search on the CPU and on GPU %d: %s; %s.", lists.card.number, ", ".join(figures), used)


def _seconds(work: Callable[[], object]) -> float:
    """How long something takes at best, of three times."""
    took = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return min(took)
