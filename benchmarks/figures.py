"""What is made of repeated measurements."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.programs import NotMeasured


@dataclass(frozen=True)
class Figures:
    """Several measurements of one thing.

    Attributes:
        median, low, high: of what was measured.
        rounds: how many there are.
    """

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figures":
        """Sums up at least one value."""
        return cls(median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` percent of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)]


def interleave(
    entrants: Mapping[str, Callable[[int], float]],
    seconds: float,
    least: int = 3,
    most: int = 50,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Measures all entrants once a round, in an order that rotates, so that what disturbs one disturbs the others.

    Args:
        entrants: each takes the round's number and returns what it measured; `NotMeasured` takes it out of the race.
        seconds: after which no round begins, once there are `least`.
        least, most: rounds.
        clock: gives seconds.

    Returns:
        What each measured, round by round, and why some measured nothing.
    """
    found: dict[str, list[float]] = {name: [] for name in entrants}
    lost: dict[str, str] = {}
    begun = clock()
    for turn in range(most):
        if turn >= least and clock() - begun > seconds:
            break
        for name in _rotated([name for name in entrants if name not in lost], turn):
            try:
                found[name].append(entrants[name](turn))
            except NotMeasured as reason:
                lost[name] = str(reason)
    return {name: values for name, values in found.items() if name not in lost and values}, lost


def _rotated(names: Sequence[str], turn: int) -> Iterator[str]:
    start = turn % len(names) if names else 0
    yield from names[start:]
    yield from names[:start]


def recall(rows: NDArray[Any], queries: NDArray[Any], answered: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """recall@k, counted by squared distance, so that ties are not misses.

    Args:
        rows: (m, d).
        queries: (n, d).
        answered: (n, k) row numbers, -1 for none.
        true: (n, k) numbers of the k nearest rows.
    """
    found = 0
    for query, mine, right in zip(queries, answered, true, strict=True):
        farthest = _squares(rows[right], query).max()
        near = _squares(rows[np.unique(mine[mine >= 0])], query)
        found += min(len(right), int((near <= farthest * (1 + 1e-12)).sum()))
    return found / true.size


def _squares(rows: NDArray[Any], query: NDArray[Any]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.square(rows.astype(np.float64) - query.astype(np.float64)).sum(axis=1)
    return squares
