"""scikit-learn as Intel's extension (oneDAL) patches it."""

from functools import partial
from typing import Any

from loop import Rows, serve
from numpy.typing import NDArray
from sklearnex.neighbors import NearestNeighbors


class Neighbours:
    """NearestNeighbors, which takes all CPUs by itself."""

    def __init__(self, algorithm: str, rows: Rows) -> None:
        self._search = NearestNeighbors(algorithm=algorithm).fit(rows)

    def __call__(self, queries: Rows, k: int, setting: None) -> tuple[NDArray[Any], NDArray[Any]]:  # noqa: ARG002
        """As `loop.Engine`."""
        found: tuple[NDArray[Any], NDArray[Any]] = self._search.kneighbors(queries, k)
        return found


class Auto(Neighbours):
    """The algorithm that it chooses by itself."""

    def __init__(self, rows: Rows) -> None:
        super().__init__("auto", rows)


if __name__ == "__main__":
    serve({"brute": partial(Neighbours, "brute")})
