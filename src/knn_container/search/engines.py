"""What proposes candidates for an exact answer, each with a bound on what it may have left out.

A proposal holds the true neighbours for certain if the k-th of its candidates, computed exactly, is nearer than any row
outside can be. The bounds on rounding are those of Higham, "Accuracy and Stability of Numerical Algorithms", section
3.1, with twice the unit roundoff.
"""

from dataclasses import dataclass, field
from typing import Protocol

import faiss
import numpy as np

from knn_container.batch import Float32Array, Float64Array, Int64Array
from knn_container.search.neighbours import SPARE, direct_scan

SCAN, PRODUCTS, PROJECTIONS, KD_TREE = "scan", "products", "projections", "kd_tree"
ENGINES = (SCAN, PRODUCTS, PROJECTIONS, KD_TREE)
GPU = "gpu"  # cannot be asked for: not every machine has one
EPSILON = float(np.finfo(np.float32).eps)
LARGEST = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)


class Engine(Protocol):
    """Proposes candidates; safe to use from several threads at once."""

    @property
    def name(self) -> str:
        """One of `ENGINES`, or `GPU`."""

    @property
    def spare(self) -> int:
        """How many candidates beyond k are worth asking for."""

    def propose(self, queries: Float32Array, wanted: int) -> tuple[Float64Array, Int64Array]:
        """Gives the nearest rows as the engine computes it.

        Args:
            queries: (n, d) finite.
            wanted: how many, at most a quarter of the rows.

        Returns:
            (n, ...) what `limit` needs, and (n, wanted) row numbers, -1 for none.
        """

    def limit(self, queries: Float32Array, worst: Float32Array, last: Float64Array) -> Float32Array:
        """The nearest value that a row outside the candidates can have, rounded as `Metric.between` rounds.

        Args:
            queries: (n, d) as `propose` took them.
            worst: (n,) exact value of the k-th neighbour found.
            last: as `propose` gave it.
        """


def direct_limit(last: Float64Array, columns: int) -> Float64Array:
    """The least squared distance that a float32 sum of squares stands for: each term is off by a share of itself."""
    return last / (1 + (columns + 8) * EPSILON) - columns * TINY  # FAISS may flush denormals to zero


@dataclass(frozen=True)
class Scan:
    """FAISS's brute force in float32, row by row, for L2: precise, and slower than matrix products for many queries.

    Attributes:
        index: of the rows.
    """

    index: faiss.IndexFlat
    name: str = SCAN
    spare: int = SPARE
    _direct: faiss.SearchParameters = field(default_factory=direct_scan)

    def propose(self, queries: Float32Array, wanted: int) -> tuple[Float64Array, Int64Array]:
        """As `Engine.propose`."""
        values, candidates = self.index.search(queries, wanted, params=self._direct)
        return values[:, -1].astype(np.float64), candidates

    def limit(
        self,
        queries: Float32Array,
        worst: Float32Array,  # noqa: ARG002
        last: Float64Array,
    ) -> Float32Array:
        """As `Engine.limit`."""
        return np.asarray(direct_limit(last, queries.shape[1]), np.float32)
