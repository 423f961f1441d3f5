"""The GPU: whether FAISS can use one, and what it does on it.

`find` looks for it once in a process; a `Card` holds what FAISS needs to work on it. Whatever goes wrong there is one
of `FAILURES`, after which the CPU does the work.
"""

from knn_container.gpu.building import Adder, k_means
from knn_container.gpu.card import FAILURES, LARGEST, Card, ListsOnCard, obstacle
from knn_container.gpu.finding import find

__all__ = ["FAILURES", "LARGEST", "Adder", "Card", "ListsOnCard", "find", "k_means", "obstacle"]
