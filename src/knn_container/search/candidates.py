"""The search of an approximate index: FAISS proposes candidates, `metric` orders them."""

from collections.abc import Sequence

import faiss
import numpy as np

from knn_container.batch import Float32Array, Int64Array
from knn_container.index import largest_value
from knn_container.metric import Metric, nearest, unit_rows
from knn_container.search.neighbours import SPARE, Neighbours, direct_scan, parts

_EF_SEARCH = 64  # HNSW's candidate list, at least; Malkov and Yashunin's ef


class CandidateSearch:
    """The nearest rows among those that an approximate index proposes.

    The values are those of the rows as the index holds them: under quantisation, of the decoded rows. Where
    decoding is coarser than the index's own estimate of a distance (RaBitQ), they are these estimates.
    """

    def __init__(self, index: faiss.Index, metric: Metric, nprobe: int, zero_rows: Sequence[int] = ()) -> None:
        self._index = index
        self._metric = metric
        self._nprobe = nprobe
        self._zero_rows = np.array(zero_rows, np.int64)
        self._is_ivf = isinstance(index, faiss.IndexIVF)
        self._estimates = isinstance(index, faiss.IndexIVFRaBitQ)
        self._largest = largest_value(index.d)
        if self._is_ivf:
            index.make_direct_map()

    def __call__(self, queries: Float32Array, k: int, nprobe: int | None = None) -> Neighbours:
        """Finds the k nearest rows of each of (n, d) finite queries among those proposed."""
        wanted = k + SPARE
        rows, values = [np.empty((0, k), np.int64)], [np.empty((0, k), np.float32)]
        for part in parts(len(queries), wanted * self._index.d):
            asked = queries[part]
            estimates, candidates = self._candidates(asked, wanted, nprobe or self._nprobe)
            compared = estimates if self._estimates else self._metric.between(asked, self._decode(candidates))
            if self._metric is Metric.COSINE:
                nowhere = ~asked.any(axis=1, keepdims=True) | np.isin(candidates, self._zero_rows)
                compared = np.where(nowhere, np.float32(0), compared)
            best, chosen = nearest(self._metric, compared, candidates, k)
            rows.append(chosen)
            values.append(best)
        return Neighbours(np.concatenate(rows), np.concatenate(values))

    def speed_up(self, room: int) -> None:
        """As `Search.speed_up`: there is no such thing."""

    def _candidates(self, queries: Float32Array, wanted: int, nprobe: int) -> tuple[Float32Array, Int64Array]:
        scaled = unit_rows(queries) if self._metric is Metric.COSINE else queries
        scaled = scaled.clip(-self._largest, self._largest)
        values, rows = self._index.search(scaled, wanted, params=self._parameters(wanted, nprobe))
        lost = rows[:, 0] < 0
        if self._is_ivf and lost.any():  # every list probed is empty
            everywhere = self._parameters(wanted, self._index.nlist)
            values[lost], rows[lost] = self._index.search(scaled[lost], wanted, params=everywhere)
        return (np.maximum(values, 0) if self._metric is Metric.L2 else values), rows

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
