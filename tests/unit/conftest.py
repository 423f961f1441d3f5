from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

# The same examples on every run: a failure is the change's, not the day's.
settings.register_profile("unit", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("unit")

Array = NDArray[np.float32]
Answer = tuple[NDArray[np.int64], Array]
Blocks = Callable[[int], Iterator[Array]]


def _values(metric: str, rows: NDArray[np.float64], query: NDArray[np.float64]) -> Array:
    values = ((rows - query) ** 2 if metric == "L2" else rows * query).sum(axis=1)
    if metric == "COSINE":
        lengths = np.sqrt((rows**2).sum(axis=1)) * np.sqrt((query**2).sum())
        values = np.array([v / length if length else 0.0 for v, length in zip(values, lengths, strict=True)])
    largest = float(np.finfo(np.float32).max)
    return values.clip(-largest, largest).astype(np.float32)


def _brute_force(metric: str, rows: Array, queries: Array, k: int) -> Answer:
    numbers, values = np.full((len(queries), k), -1), np.zeros((len(queries), k), np.float32)
    for i, query in enumerate(queries):
        of_all = _values(metric, rows.astype(np.float64), query.astype(np.float64))
        order = np.argsort(of_all if metric == "L2" else -of_all, kind="stable")[:k]
        numbers[i, : len(order)], values[i, : len(order)] = order, of_all[order]
    return numbers, values


@pytest.fixture(scope="session")
def brute_force() -> Callable[[str, Array, Array, int], Answer]:
    """The k nearest rows by one float64 sum a pair, rounded once to float32; the stable sort breaks ties by row."""
    return _brute_force


@pytest.fixture(scope="session")
def blocks_of() -> Callable[[Array], Blocks]:
    """Rows in the shape in which `index.build` asks for them."""
    return lambda rows: lambda size: (rows[start : start + size] for start in range(0, len(rows), size))
