"""Searches a FAISS index: FAISS proposes candidates, `metric` orders them.

FAISS computes in float32, where rows can change places. Each engine therefore fetches more candidates than are
asked for, computes their values anew by the arithmetic of `metric`, and answers from these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import faiss
import numpy as np

from knn_container.batch import BoolArray, Float32Array, Float64Array, Int64Array
from knn_container.index import largest_value, use_matrix_products
from knn_container.metric import Metric, nearest, row_lengths, unit_rows

# Candidates beyond k. Of a few hundred thousand rows of real tables, this many hold all that rounding mixes up.
_SPARE = 16
_GROWTH = 16
_BLOCK = 1 << 20  # numbers that one step computes in float64: 8 MiB
_PRODUCTS_FROM = 8  # queries from which matrix products are faster than comparing row by row
_TRIAL = 64  # queries that show whether matrix products settle most answers
_EF_SEARCH = 64  # HNSW's candidate list, at least; Malkov and Yashunin's ef
_EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Neighbours:
    """The answer to n queries.

    Attributes:
        rows: (n, k) int64 row numbers, nearest first; -1 where there is no further neighbour, always last.
        values: (n, k) float32, what `metric` says of them; meaningless beside a -1.
    """

    rows: Int64Array
    values: Float32Array


class Search(Protocol):
    """Finds neighbours; safe to call from several threads at once."""

    def __call__(self, queries: Float32Array, k: int, nprobe: int | None = None) -> Neighbours:
        """Finds the k nearest rows of each of (n, d) finite queries.

        Args:
            queries: in the dimension of the index.
            k: how many.
            nprobe: inverted lists to look into, in place of the model's; nothing to an index without them.
        """


def search_for(index: faiss.Index, metric: Metric, nprobe: int, zero_rows: Sequence[int] = ()) -> Search:
    """Makes the search that fits an index.

    Args:
        index: as `index.build` makes it.
        metric: what it was built for.
        nprobe: inverted lists that a query looks into.
        zero_rows: under COSINE, the numbers of rows without a direction, where the index cannot tell them.
    """
    if isinstance(index, faiss.IndexFlat):
        return ExactSearch(index, metric)
    return CandidateSearch(index, metric, nprobe, zero_rows)


def direct_scan() -> faiss.SearchParameters:
    """Parameters under which FAISS compares row by row, whatever the number of queries.

    For many queries FAISS multiplies matrices instead, and |x|² + |y|² - 2xy loses its digits on data far from the
    origin; with a selector of rows it never does.
    """
    return faiss.SearchParameters(sel=faiss.IDSelectorAll())


class ExactSearch:
    """The exact nearest neighbours of a flat index.

    FAISS gives k candidates and some more, by matrix products for many queries and row by row for few. They hold
    the true neighbours for certain if the k-th of them, computed exactly, is nearer than any row outside them can
    be, given a bound on FAISS's rounding. Queries for which that fails are asked again, row by row and with more
    candidates, in the end with all rows.
    """

    def __init__(self, index: faiss.IndexFlat, metric: Metric) -> None:
        use_matrix_products()
        self._metric = metric
        self._rows: Float32Array = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(
            index.ntotal, index.d
        )
        self._index = index  # owns the memory of `_rows`
        self._scanned = _unit_index(self._rows) if metric is Metric.COSINE else index
        self._row_by_row = direct_scan()
        self._longest = max((float(row_lengths(block).max()) for block in _slices(self._rows)), default=0.0)
        self._products_pay = self._try_products()

    def __call__(self, queries: Float32Array, k: int, nprobe: int | None = None) -> Neighbours:  # noqa: ARG002
        """Finds the k nearest rows of each of (n, d) finite queries."""
        rows = np.full((len(queries), k), -1, np.int64)
        values = np.zeros((len(queries), k), np.float32)
        pending = np.arange(len(queries))
        wanted = k + _SPARE
        products = self._products_pay and len(queries) >= _PRODUCTS_FROM
        while len(pending):
            found, certain = self._attempt(queries[pending], k, wanted, products=products)
            kept = found.rows.shape[1]
            rows[pending[certain], :kept] = found.rows[certain]
            values[pending[certain], :kept] = found.values[certain]
            pending = pending[~certain]
            wanted *= 1 if products else _GROWTH
            products = False
        return Neighbours(rows, values)

    def _try_products(self) -> bool:
        """Whether matrix products settle most queries on these rows: on data far from the origin they don't."""
        queries = self._rows[:: max(1, len(self._rows) // _TRIAL)][:_TRIAL]
        k = min(_SPARE, len(self._rows))
        _, certain = self._attempt(queries, k, k + _SPARE, products=True)
        return 2 * int(certain.sum()) > len(queries)

    def _attempt(self, queries: Float32Array, k: int, wanted: int, *, products: bool) -> tuple[Neighbours, BoolArray]:
        """Searches with `wanted` candidates; says for which queries the answer is certain."""
        if 4 * wanted >= len(self._rows):
            return self._among_all(queries, min(k, len(self._rows))), np.ones(len(queries), bool)
        asked = unit_rows(queries) if self._metric is Metric.COSINE else queries
        scanned, candidates = self._scanned.search(asked, wanted, params=None if products else self._row_by_row)
        compared = [
            self._metric.between(queries[part], self._rows[candidates[part]])
            for part in _parts(len(queries), wanted * self._index.d)
        ]
        values, rows = nearest(self._metric, np.concatenate(compared), candidates, k)
        worst = values[:, -1]
        limit = self._limit(queries, worst, scanned[:, -1].astype(np.float64), products=products)
        certain = worst > limit if self._metric.is_similarity else worst < limit
        # Where float32 overflows, FAISS leaves candidates out.
        return Neighbours(rows, values), certain & (candidates >= 0).all(axis=1)

    def _limit(self, queries: Float32Array, worst: Float32Array, last: Float64Array, *, products: bool) -> Float32Array:
        """The nearest value that a row outside the candidates can have, rounded as `Metric.between` rounds.

        The bounds are those of Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1, with twice
        the unit roundoff.

        Args:
            queries: (n, d).
            worst: (n,) exact value of the k-th neighbour found.
            last: (n,) FAISS's value of the last candidate.
            products: whether FAISS multiplied matrices.
        """
        relative = (self._index.d + 8) * _EPSILON
        smallest = self._index.d * float(np.finfo(np.float32).tiny)  # FAISS may flush denormals to zero
        with np.errstate(over="ignore"):
            if self._metric is Metric.COSINE:
                limit = last + relative * 2
            elif self._metric is Metric.INNER_PRODUCT:
                limit = last + relative * row_lengths(queries) * self._longest + smallest
            elif products:
                # |x|^2 + |q|^2 - 2xq is off by a share of (|x| + |q|)^2; by the triangle inequality no row with
                # |x| > |q| + the k-th distance matters.
                reach = 2 * row_lengths(queries) + np.sqrt(worst, dtype=np.float64)
                limit = last - relative * np.square(reach) - smallest
            else:
                # A sum of squares: each term is off by a share of itself.
                limit = last / (1 + relative) - smallest
            return np.asarray(limit, np.float32)

    def _among_all(self, queries: Float32Array, k: int) -> Neighbours:
        numbers = np.arange(len(self._rows))[np.newaxis]
        best = [Neighbours(np.empty((0, k), np.int64), np.empty((0, k), np.float32))]
        for part in _parts(len(queries), len(self._rows)):
            compared = [self._metric.between(queries[part], block) for block in _slices(self._rows, len(queries[part]))]
            values = np.concatenate(compared, axis=1)
            kept, chosen = nearest(self._metric, values, np.broadcast_to(numbers, values.shape), k)
            best.append(Neighbours(chosen, kept))
        return Neighbours(np.concatenate([n.rows for n in best]), np.concatenate([n.values for n in best]))


def _unit_index(rows: Float32Array) -> faiss.IndexFlat:
    index = faiss.IndexFlat(rows.shape[1], faiss.METRIC_INNER_PRODUCT)
    for block in _slices(rows):
        index.add(unit_rows(block))
    return index


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
        wanted = k + _SPARE
        rows, values = [np.empty((0, k), np.int64)], [np.empty((0, k), np.float32)]
        for part in _parts(len(queries), wanted * self._index.d):
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


def _slices(rows: Float32Array, times: int = 1) -> Iterator[Float32Array]:
    """Cuts rows into blocks, each of which will be compared with `times` queries."""
    return (rows[part] for part in _parts(len(rows), rows.shape[1] * times))


def _parts(count: int, numbers_each: int) -> Iterator[slice]:
    """Cuts `count` things into slices of at most `_BLOCK` numbers."""
    step = max(1, _BLOCK // max(1, numbers_each))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
