"""This project's search."""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from loop import Rows, serve
from numpy.typing import NDArray

from knn_container.index import IndexSpec, build
from knn_container.metric import Metric
from knn_container.search import search_for

MANY = 10**9  # queries to come: what pays is built before the first of them


class Index:
    """An index of any type, with its search."""

    def __init__(self, index_type: str, rows: Rows) -> None:
        def blocks(size: int) -> Iterator[Rows]:
            return (rows[start : start + size] for start in range(0, len(rows), size))

        index = build(IndexSpec(index_type, Metric.L2), *rows.shape, blocks)
        room = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        self._search = search_for(index, Metric.L2, 1)
        self._search.speed_up(room, queries=MANY)

    def __call__(self, queries: Rows, k: int, setting: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
        """As `loop.Engine`; the setting is nprobe."""
        found = self._search(queries, k, setting)
        return found.values, found.rows


if __name__ == "__main__":
    types = {"Flat": "faiss.Flat", "IVFFlat": "faiss.IVFFlat", "HNSW": "faiss.HNSW", "IVFSQ8": "faiss.IVFSQ8"}
    serve({name: partial(Index, index_type) for name, index_type in types.items()})
