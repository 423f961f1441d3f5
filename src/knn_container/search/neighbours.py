"""What every search answers, and how it cuts its work into blocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import faiss
import numpy as np

from knn_container.batch import Float32Array, Float64Array, Int64Array

SPARE = 16  # candidates beyond k: of a few hundred thousand rows of real tables, they hold all that rounding mixes up
_BLOCK = 1 << 17  # numbers that one step computes in float64: 1 MiB

# Gives an (n, d) float64 array that its second argument has filled, perhaps in another process.
Share = Callable[[tuple[int, int], Callable[[Float64Array], None]], Float64Array]


def own_memory(shape: tuple[int, int], fill: Callable[[Float64Array], None]) -> Float64Array:
    """A `Share` of one's own."""
    array = np.empty(shape)
    fill(array)
    return array


class Neighbours(NamedTuple):
    """The answer to n queries.

    Attributes:
        rows: (n, k) int64 row numbers, nearest first; -1 where there is no further neighbour, always last.
        values: (n, k) float32, what `metric` says of them; meaningless beside a -1.
    """

    rows: Int64Array
    values: Float32Array


@dataclass(frozen=True)
class Timing:
    """How long an engine took in a trial.

    Attributes:
        engine: one of `engines.ENGINES`, or `engines.GPU`.
        queries: in one batch.
        seconds: for the batch.
        chosen: whether batches of this size are searched by it.
    """

    engine: str
    queries: int
    seconds: float
    chosen: bool


class Search(Protocol):
    """Finds neighbours; safe to call from several threads at once."""

    def __call__(self, queries: Float32Array, k: int, nprobe: int | None = None) -> Neighbours:
        """Finds the k nearest rows of each of (n, d) finite queries.

        Args:
            queries: in the dimension of the index.
            k: how many.
            nprobe: inverted lists to look into, in place of the model's; nothing to an index without them.
        """

    def compare(self) -> None:
        """Chooses the fastest of what finds the same answers at once, by a short trial, for which others are idle."""

    def speed_up(self, room: int, queries: int | None = None, share: Share = own_memory) -> None:
        """Builds what makes the same answers faster still, while searches go on; compares first, unless that is done.

        Args:
            room: bytes of memory that it may take.
            queries: that will be asked in all: nothing is built that these are not worth; None is for a service,
                whose queries do not end.
            share: gives the memory of what processes can have in common.
        """

    @property
    def timings(self) -> tuple[Timing, ...]:
        """What the choice rests on; empty before there is one, and where there is none to make."""


def direct_scan() -> faiss.SearchParameters:
    """Parameters under which FAISS compares row by row, whatever the number of queries.

    For many queries FAISS multiplies matrices instead, and |x|² + |y|² - 2xy loses its digits on data far from the
    origin; with a selector of rows it never does.
    """
    return faiss.SearchParameters(sel=faiss.IDSelectorAll())


def slices(rows: Float32Array, times: int = 1) -> Iterator[Float32Array]:
    """Cuts rows into blocks, each of which will be compared with `times` queries."""
    return (rows[part] for part in parts(len(rows), rows.shape[1] * times))


def parts(count: int, numbers_each: int) -> Iterator[slice]:
    """Cuts `count` things into slices of at most `_BLOCK` numbers."""
    step = max(1, _BLOCK // max(1, numbers_each))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
