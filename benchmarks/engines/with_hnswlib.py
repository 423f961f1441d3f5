"""hnswlib."""

import os
from typing import Any

import hnswlib
from loop import Rows, serve
from numpy.typing import NDArray

CPUS = len(os.sched_getaffinity(0))


class HNSW:
    """Its graph, with M = 32."""

    def __init__(self, rows: Rows) -> None:
        self._index = hnswlib.Index("l2", rows.shape[1])
        self._index.init_index(len(rows), M=32, ef_construction=64)
        self._index.set_num_threads(CPUS)
        self._index.add_items(rows)

    def __call__(self, queries: Rows, k: int, setting: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """As `loop.Engine`; the setting is ef."""
        self._index.set_ef(max(setting, k))
        labels, distances = self._index.knn_query(queries, k)
        return distances, labels


if __name__ == "__main__":
    serve({"HNSW": HNSW})
