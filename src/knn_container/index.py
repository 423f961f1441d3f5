"""Builds FAISS indexes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import faiss
import numpy as np

from knn_container import gpu
from knn_container.batch import Float32Array
from knn_container.errors import UserError
from knn_container.metric import Metric, unit_rows

FLAT, IVF_FLAT, IVF_PQ = "faiss.Flat", "faiss.IVFFlat", "faiss.IVFPQ"
SQ_FP16, SQ_8, IVF_SQ_8 = "faiss.SQfp16", "faiss.SQ8", "faiss.IVFSQ8"
HNSW, IVF_RABITQ = "faiss.HNSW", "faiss.IVFRaBitQ"
INDEX_TYPES = (FLAT, IVF_FLAT, IVF_PQ, SQ_FP16, SQ_8, IVF_SQ_8, HNSW, IVF_RABITQ)
PQ_BITS = 8
_HNSW_NEIGHBOURS = 32  # edges of a node, M in Malkov and Yashunin, 2018
_EF_CONSTRUCTION = 64
_ROWS_PER_CENTROID = 256
_LARGEST_FP16 = float(np.finfo(np.float16).max)
_BLOCK = 1 << 20  # numbers in a block that is copied on its way into the index: 4 MiB

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexSpec:
    """What to build.

    Attributes:
        index_type: one of `INDEX_TYPES`.
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


def build(
    spec: IndexSpec,
    rows: int,
    width: int,
    blocks: Callable[[int], Iterator[Float32Array]],
    find_card: Callable[[], gpu.Card | None] = lambda: None,
) -> faiss.Index:
    """Builds an index.

    Args:
        spec: what to build.
        rows: n, how many rows there are.
        width: d, their dimension.
        blocks: gives the rows as (m, d) arrays of at most as many rows as it is asked for, in the order in which
            they are to be numbered; it is called twice where the index needs training.
        find_card: `gpu.find`, for inverted lists to be built with a GPU's help; it is called for them alone.

    Returns:
        A FAISS index of n rows, numbered from 0.

    Raises:
        UserError: too few rows for the index.
    """
    index = _empty_index(spec, rows, width)
    block_rows = max(1, _BLOCK // width)
    card = None
    if not index.is_trained:
        _use_matrix_products()
        sample = _prepare(spec, _training_rows(spec, index, rows, blocks(block_rows)))
        card = find_card() if isinstance(index, faiss.IndexIVF) else None
        if card and not _train_on(card, index, sample):
            card, index = None, _empty_index(spec, rows, width)
        if not index.is_trained:
            index.train(sample)
        del sample
    adder = gpu.Adder(index, card)
    with _one_thread(spec.index_type == HNSW):
        for block in blocks(block_rows):
            adder.add(_prepare(spec, block))
    return index


def _train_on(card: gpu.Card, index: faiss.IndexIVF, sample: Float32Array) -> bool:
    """Trains an index with a GPU's help; says whether that worked."""
    try:
        with gpu.k_means(card, index):
            index.train(sample)
    except gpu.FAILURES as error:
        log.warning("The CPU does the k-means: %s", error)
        return False
    log.info("k-means ran on GPU %d, %s.", card.number, card.name)
    return True


@contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    """Adds to a graph in one thread: its edges would depend on which of several came first."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if wanted else threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def largest_value(width: int) -> float:
    """The largest magnitude of a feature at which inverted lists still work: float32 overflows beyond it."""
    return float(np.sqrt(np.finfo(np.float32).max / width)) / 4


def zero_rows(spec: IndexSpec, blocks: Iterator[Float32Array]) -> list[int]:
    """The numbers of the rows without a direction that an index for COSINE cannot tell from short ones.

    Codes of 8 bits or fewer do not hold a zero exactly.
    """
    if spec.metric is not Metric.COSINE or spec.index_type not in (SQ_8, IVF_SQ_8, IVF_RABITQ):
        return []
    numbers: list[int] = np.flatnonzero(np.concatenate([~block.any(axis=1) for block in blocks])).tolist()
    return numbers


def padded(width: int, pq_m: int | None) -> int:
    """The dimension in which rows of `width` columns are indexed: under product quantisation a multiple of m."""
    return width if pq_m is None else -(-width // pq_m) * pq_m


def bytes_per_row(spec: IndexSpec, width: int) -> int:
    """What an index holds for a row of `width` columns, at least."""
    match spec.index_type:
        case "faiss.SQfp16":
            return 2 * width
        case "faiss.SQ8" | "faiss.IVFSQ8":
            return width
        case "faiss.IVFRaBitQ":
            return width // 8
        case "faiss.IVFPQ":
            return spec.pq_m or 0
        case "faiss.HNSW":
            return 4 * width + 8 * _HNSW_NEIGHBOURS
    return 4 * width


def _prepare(spec: IndexSpec, block: Float32Array) -> Float32Array:
    block = unit_rows(block) if spec.holds_unit_rows else block
    if spec.index_type == FLAT:
        return block
    limit = largest_value(block.shape[1])
    if spec.index_type == SQ_FP16:
        limit = min(limit, _LARGEST_FP16)
    if (came := float(np.abs(block).max(initial=0))) > limit:
        raise UserError(
            f"{spec.index_type} takes features of a magnitude up to {limit:.4g}, {came:.4g} came. "
            f"Scale the features or use {FLAT}."
        )
    return block


def _use_matrix_products() -> None:
    """Lets FAISS multiply matrices in k-means, where rounding does no harm; searches do not rely on it.

    The threshold is in queries times dimension (FAISS 1.15); its default of 128,000 leaves k-means on the slow path
    where there are few columns. Blocks of 4,096 rows took 128 ms where the default of 1,024 took 144 (581 queries,
    200,000 x 54, two cores).
    """
    faiss.cvar.distance_compute_blas_threshold = 1
    faiss.cvar.distance_compute_blas_database_bs = 4096


def _empty_index(spec: IndexSpec, rows: int, width: int) -> faiss.Index:
    metric = faiss.METRIC_L2 if spec.metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
    match spec.index_type:
        case "faiss.Flat":
            return faiss.IndexFlat(width, metric)
        case "faiss.SQfp16":
            return faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, metric)
        case "faiss.SQ8":
            return faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit, metric)
        case "faiss.HNSW":
            index = faiss.IndexHNSWFlat(width, _HNSW_NEIGHBOURS, metric)
            index.hnsw.efConstruction = _EF_CONSTRUCTION
            return index
    nlist = spec.nlist or max(1, int(rows**0.5))
    check_rows(spec.index_type, rows, nlist)
    quantizer = faiss.IndexFlat(width, metric)
    match spec.index_type:
        case "faiss.IVFFlat":
            index = faiss.IndexIVFFlat(quantizer, width, nlist, metric)
        case "faiss.IVFSQ8":
            index = faiss.IndexIVFScalarQuantizer(quantizer, width, nlist, faiss.ScalarQuantizer.QT_8bit, metric)
        case "faiss.IVFRaBitQ":
            index = faiss.IndexIVFRaBitQ(quantizer, width, nlist, metric)
        case _:
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
    if rows < nlist:
        raise UserError(
            f"{index_type} needs at least as many rows as lists: faiss_index_ivf_nlists is {nlist} and {rows} rows "
            "were sampled. Lower faiss_index_ivf_nlists, raise sample_size or give more rows."
        )
    if index_type == IVF_PQ and rows < 1 << PQ_BITS:
        raise UserError(
            f"faiss.IVFPQ needs at least {1 << PQ_BITS} rows for its codebooks, {rows} were sampled. "
            "Raise sample_size, give more rows, or use faiss.Flat or faiss.IVFFlat."
        )


def _training_rows(spec: IndexSpec, index: faiss.Index, rows: int, blocks: Iterator[Float32Array]) -> Float32Array:
    """Chooses the rows to train on: k-means uses no more than 256 for each centroid."""
    centroids = max(getattr(index, "nlist", 0), 1 << PQ_BITS)
    wanted = _ROWS_PER_CENTROID * centroids
    if rows <= wanted:
        return np.concatenate(list(blocks))
    chosen = np.zeros(rows, bool)
    chosen[np.random.default_rng(spec.seed).choice(rows, wanted, replace=False)] = True
    parts, start = [], 0
    for block in blocks:
        parts.append(block[chosen[start : start + len(block)]])
        start += len(block)
    return np.concatenate(parts)
