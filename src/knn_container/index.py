"""Builds FAISS indexes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import faiss
import numpy as np

from knn_container.batch import Float32Array
from knn_container.errors import UserError
from knn_container.metric import Metric, unit_rows

FLAT, IVF_FLAT, IVF_PQ = "faiss.Flat", "faiss.IVFFlat", "faiss.IVFPQ"
PQ_BITS = 8
_BLOCK = 1 << 22  # numbers in a block that is copied on its way into the index: 16 MiB


@dataclass(frozen=True)
class IndexSpec:
    """What to build.

    Attributes:
        index_type: `faiss.Flat`, `faiss.IVFFlat` or `faiss.IVFPQ`.
        metric: IVFPQ takes L2 alone.
        nlist: inverted lists; None is the square root of the number of rows.
        pq_m: codes of a row under IVFPQ; it divides the dimension.
        seed: of k-means and of the rows that it is trained on.
    """

    index_type: str
    metric: Metric
    nlist: int | None = None
    pq_m: int | None = None
    seed: int = 0

    @property
    def holds_unit_rows(self) -> bool:
        """Whether the index holds rows scaled to length 1: FAISS has no cosine of its own.

        A flat index holds the rows as they came, from which `search` computes exact cosines.
        """
        return self.metric is Metric.COSINE and self.index_type != FLAT


def build(spec: IndexSpec, rows: int, width: int, blocks: Callable[[int], Iterator[Float32Array]]) -> faiss.Index:
    """Builds an index.

    Args:
        spec: what to build.
        rows: n, how many rows there are.
        width: d, their dimension.
        blocks: gives the rows as (m, d) arrays of at most as many rows as it is asked for, in the order in which
            they are to be numbered; it is called twice where the index needs training.

    Returns:
        A FAISS index of n rows, numbered from 0.

    Raises:
        UserError: too few rows for the index.
    """
    index = _empty_index(spec, rows, width)
    block_rows = max(1, _BLOCK // width)
    if not index.is_trained:
        use_matrix_products()
        index.train(_prepare(spec, _training_rows(spec, index, rows, blocks(block_rows))))
    for block in blocks(block_rows):
        index.add(_prepare(spec, block))
    return index


def largest_value(width: int) -> float:
    """The largest magnitude of a feature at which inverted lists still work: float32 overflows beyond it."""
    return float(np.sqrt(np.finfo(np.float32).max / width)) / 4


def _prepare(spec: IndexSpec, block: Float32Array) -> Float32Array:
    block = unit_rows(block) if spec.holds_unit_rows else block
    if spec.index_type != FLAT and np.abs(block).max(initial=0) > (limit := largest_value(block.shape[1])):
        raise UserError(
            f"{spec.index_type} takes features of a magnitude up to {limit:.1e}, {np.abs(block).max():.1e} came. "
            "Scale the features or use faiss.Flat."
        )
    return block


def use_matrix_products() -> None:
    """Lets FAISS multiply matrices wherever it may, which `search` allows where rounding can do no harm.

    The threshold is in queries times dimension (FAISS 1.15); its default of 128,000 leaves k-means and ordinary
    batches on the slow path. Blocks of 4,096 rows are 1.4 times as fast as the default of 1,024.
    """
    faiss.cvar.distance_compute_blas_threshold = 1
    faiss.cvar.distance_compute_blas_database_bs = 4096


def _empty_index(spec: IndexSpec, rows: int, width: int) -> faiss.Index:
    metric = faiss.METRIC_L2 if spec.metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
    if spec.index_type == FLAT:
        return faiss.IndexFlat(width, metric)
    nlist = spec.nlist or max(1, int(rows**0.5))
    check_rows(spec.index_type, rows, nlist)
    quantizer = faiss.IndexFlat(width, metric)
    if spec.index_type == IVF_FLAT:
        index = faiss.IndexIVFFlat(quantizer, width, nlist, metric)
    else:
        index = faiss.IndexIVFPQ(quantizer, width, nlist, spec.pq_m, PQ_BITS)
        index.pq.cp.seed = spec.seed
        index.pq.cp.min_points_per_centroid = 1
    index.cp.seed = spec.seed
    # FAISS warns under 39 rows a list. The built-in's own notebook has fewer, and results stay right.
    index.cp.min_points_per_centroid = 1
    return index


def check_rows(index_type: str, rows: int, nlist: int) -> None:
    """Checks that k-means has enough rows.

    Raises:
        UserError: fewer rows than lists or than the values of a code.
    """
    if index_type != FLAT and rows < nlist:
        raise UserError(
            f"{index_type} needs at least as many rows as lists: faiss_index_ivf_nlists is {nlist} and {rows} rows "
            "were sampled. Lower faiss_index_ivf_nlists or give more rows."
        )
    if index_type == IVF_PQ and rows < 1 << PQ_BITS:
        raise UserError(
            f"faiss.IVFPQ needs at least {1 << PQ_BITS} rows for its codebooks, {rows} were sampled. "
            "Give more rows or use faiss.Flat or faiss.IVFFlat."
        )


def _training_rows(spec: IndexSpec, index: faiss.Index, rows: int, blocks: Iterator[Float32Array]) -> Float32Array:
    """Chooses the rows for k-means: FAISS uses no more than 256 for each centroid."""
    centroids = max(index.nlist, 1 << PQ_BITS if spec.index_type == IVF_PQ else 0)
    wanted = index.cp.max_points_per_centroid * centroids
    if rows <= wanted:
        return np.concatenate(list(blocks))
    chosen = np.zeros(rows, bool)
    chosen[np.random.default_rng(spec.seed).choice(rows, wanted, replace=False)] = True
    parts, start = [], 0
    for block in blocks:
        parts.append(block[chosen[start : start + len(block)]])
        start += len(block)
    return np.concatenate(parts)
