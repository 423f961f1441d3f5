"""Inverted lists that a GPU helps to build.

The index stays on the CPU, in its own format: the GPU finds the nearest centroid of each row, which is nearly all the
work of k-means and of adding. So it needs room for no more than the centroids, and it takes any number of codes.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np
from faiss.contrib.ivf_tools import add_preassigned

from knn_container.batch import Float32Array
from knn_container.gpu.card import FAILURES, Card
from knn_container.gpu.runtime import CudaError

_PAGES = 1 << 30  # bytes of rows on their way: FAISS takes up to 512 MiB of them at once

log = logging.getLogger(__name__)


@contextmanager
def k_means(card: Card, index: faiss.IndexIVF) -> Iterator[None]:
    """Has FAISS do its k-means on a GPU when it trains an index, of the lists and of the codes.

    Raises:
        RuntimeError: FAISS or the GPU cannot; so may the training.
        CudaError: the GPU has no room.
    """
    if (needed := 8 * index.nlist * (index.d + 1) + _PAGES) > (room := card.room()):
        raise CudaError(f"k-means takes {needed >> 20} MiB, {card.name} has room for {room >> 20}")
    codes = index.pq if isinstance(index, faiss.IndexIVFPQ) else None
    centroids = card.copy(faiss.IndexFlat(index.d, index.metric_type))
    values = card.copy(faiss.IndexFlat(codes.dsub, faiss.METRIC_L2)) if codes else None
    index.clustering_index = centroids
    if codes:
        codes.assign_index = values
    try:
        with card.lock:
            yield
    finally:
        index.clustering_index = None  # FAISS owns neither
        if codes:
            codes.assign_index = None


class Adder:
    """Adds rows to an index; a GPU says to which lists, as long as it can.

    Args:
        index: trained.
        card: None leaves all to the CPU.
    """

    def __init__(self, index: faiss.Index, card: Card | None) -> None:
        self._index = index
        self._card = card
        self._centroids = None
        if card:
            self._attempt_copy(card)

    def add(self, rows: Float32Array) -> None:
        """Adds (n, d) rows, numbered from what there is."""
        if self._card and self._centroids:
            try:
                with self._card.lock:
                    _, lists = self._centroids.search(rows, 1)
            except FAILURES as error:
                self._leave(error)
            else:
                add_preassigned(self._index, np.ascontiguousarray(rows), lists.ravel())
                return
        self._index.add(rows)

    def _attempt_copy(self, card: Card) -> None:
        try:
            if (needed := 4 * self._index.nlist * (self._index.d + 1)) > (room := card.room()):
                raise CudaError(f"the centroids take {needed >> 20} MiB, {card.name} has room for {room >> 20}")
            self._centroids = card.copy(self._index.quantizer)
        except FAILURES as error:
            self._leave(error)

    def _leave(self, error: BaseException) -> None:
        self._centroids = None
        log.warning("The CPU goes on with adding rows: %s", error)
