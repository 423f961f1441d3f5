"""usearch."""

import os
from typing import Any

import numpy as np
from loop import Rows, serve
from numpy.typing import NDArray
from usearch.index import Index

CPUS = len(os.sched_getaffinity(0))


class HNSW:
    """Its graph, with 32 edges a node and 64 in the base layer, as the others have with M = 32."""

    def __init__(self, rows: Rows) -> None:
        self._index = Index(ndim=rows.shape[1], metric="l2sq", dtype="f32", connectivity=32, expansion_add=64)
        self._index.add(np.arange(len(rows)), rows, threads=CPUS)

    def __call__(self, queries: Rows, k: int, setting: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
        """As `loop.Engine`; the setting is the expansion of a search."""
        if setting:
            self._index.expansion_search = setting
        found = self._index.search(queries, k, threads=CPUS)
        shape = (len(queries), k)
        return found.distances.reshape(shape), found.keys.reshape(shape)


if __name__ == "__main__":
    serve({"HNSW": HNSW})
