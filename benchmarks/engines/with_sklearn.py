"""scikit-learn's nearest neighbours."""

import os
from functools import partial
from typing import Any

from loop import Rows, serve
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

CPUS = len(os.sched_getaffinity(0))


class Neighbours:
    """NearestNeighbors, with all CPUs for more than one query."""

    def __init__(self, algorithm: str, rows: Rows) -> None:
        self._search = NearestNeighbors(algorithm=algorithm).fit(rows)

    def __call__(self, queries: Rows, k: int, setting: None) -> tuple[NDArray[Any], NDArray[Any]]:  # noqa: ARG002
        """As `loop.Engine`."""
        self._search.n_jobs = CPUS if len(queries) > 1 else None
        found: tuple[NDArray[Any], NDArray[Any]] = self._search.kneighbors(queries, k)
        return found


class Auto(Neighbours):
    """The algorithm that scikit-learn chooses by itself."""

    def __init__(self, rows: Rows) -> None:
        super().__init__("auto", rows)


if __name__ == "__main__":
    serve({algorithm: partial(Neighbours, algorithm) for algorithm in ("brute", "kd_tree")})
