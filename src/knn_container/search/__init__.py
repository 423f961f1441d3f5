"""Searches an index: exactly by one of several engines, or among the candidates that an approximate index proposes.

In float32, in which FAISS and most engines compute, rows can change places. Every value that is answered was therefore
computed by the arithmetic of `metric`, and more rows were compared by it than are asked for.
"""

from collections.abc import Sequence

import faiss

from knn_container.metric import Metric
from knn_container.search.candidates import CandidateSearch
from knn_container.search.engines import ENGINES
from knn_container.search.exact import AUTO, ExactSearch
from knn_container.search.neighbours import Neighbours, Search, Share, Timing, own_memory

__all__ = ["AUTO", "ENGINES", "Neighbours", "Search", "Share", "Timing", "own_memory", "search_for"]


def search_for(
    index: faiss.Index, metric: Metric, nprobe: int, zero_rows: Sequence[int] = (), *, engine: str = AUTO
) -> Search:
    """Makes the search that fits an index.

    Args:
        index: as `index.build` makes it.
        metric: what it was built for.
        nprobe: inverted lists that a query looks into.
        zero_rows: under COSINE, the numbers of rows without a direction, where the index cannot tell them.
        engine: of a flat index's search: one of `ENGINES`, or `auto`.
    """
    if isinstance(index, faiss.IndexFlat):
        return ExactSearch(index, metric, engine)
    return CandidateSearch(index, metric, nprobe, zero_rows)
