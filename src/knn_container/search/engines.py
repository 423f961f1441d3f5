"""What finds the exact neighbours, each engine in its own way: the answers are the same."""

from typing import Protocol

import numpy as np

from knn_container.batch import Float32Array
from knn_container.search.neighbours import Neighbours

SCAN, PRODUCTS, PROJECTIONS, KD_TREE = "scan", "products", "projections", "kd_tree"
ENGINES = (SCAN, PRODUCTS, PROJECTIONS, KD_TREE)
GPU = "gpu"  # cannot be asked for: not every machine has one
EPSILON = float(np.finfo(np.float32).eps)
LARGEST = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)


class Engine(Protocol):
    """Finds exact neighbours; safe to use from several threads at once."""

    @property
    def name(self) -> str:
        """One of `ENGINES`, or `GPU`."""

    def search(self, queries: Float32Array, k: int) -> Neighbours:
        """Finds the k nearest rows of each of (n, d) finite queries, contiguous."""
