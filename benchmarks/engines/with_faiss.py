"""FAISS by itself."""

from typing import Any

import faiss
from loop import Rows, serve
from numpy.typing import NDArray

BLAS = "BLAS"
_DEFAULTS = (faiss.cvar.distance_compute_blas_threshold, faiss.cvar.distance_compute_blas_database_bs)


class Flat:
    """IndexFlatL2."""

    def __init__(self, rows: Rows) -> None:
        self._index = faiss.IndexFlatL2(rows.shape[1])
        self._index.add(rows)

    def __call__(self, queries: Rows, k: int, setting: str | None) -> tuple[NDArray[Any], NDArray[Any]]:
        """As `loop.Engine`; the setting BLAS has it multiply matrices for any number of queries."""
        threshold, block = (1, 4096) if setting == BLAS else _DEFAULTS
        faiss.cvar.distance_compute_blas_threshold = threshold
        faiss.cvar.distance_compute_blas_database_bs = block
        found: tuple[NDArray[Any], NDArray[Any]] = self._index.search(queries, k)
        return found


class Panorama:
    """IndexFlatL2Panorama, with levels of 8 columns or so."""

    def __init__(self, rows: Rows) -> None:
        self._index = faiss.IndexFlatL2Panorama(rows.shape[1], max(2, min(16, rows.shape[1] // 8)))
        self._index.add(rows)

    def __call__(self, queries: Rows, k: int, setting: None) -> tuple[NDArray[Any], NDArray[Any]]:  # noqa: ARG002
        """As `loop.Engine`."""
        found: tuple[NDArray[Any], NDArray[Any]] = self._index.search(queries, k)
        return found


class IVF:
    """IndexIVFFlat, with the square root of the number of rows as lists."""

    def __init__(self, rows: Rows) -> None:
        lists = int(len(rows) ** 0.5)
        self._index = faiss.index_factory(rows.shape[1], f"IVF{lists},Flat")
        self._index.train(rows)
        self._index.add(rows)

    def __call__(self, queries: Rows, k: int, setting: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """As `loop.Engine`; the setting is nprobe."""
        self._index.nprobe = setting
        found: tuple[NDArray[Any], NDArray[Any]] = self._index.search(queries, k)
        return found


class HNSW:
    """IndexHNSWFlat with M = 32."""

    def __init__(self, rows: Rows) -> None:
        self._index = faiss.IndexHNSWFlat(rows.shape[1], 32)
        self._index.hnsw.efConstruction = 64
        self._index.add(rows)

    def __call__(self, queries: Rows, k: int, setting: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """As `loop.Engine`; the setting is efSearch."""
        self._index.hnsw.efSearch = setting
        found: tuple[NDArray[Any], NDArray[Any]] = self._index.search(queries, k)
        return found


if __name__ == "__main__":
    serve({"Flat": Flat, "Panorama": Panorama, "IVF": IVF, "HNSW": HNSW})
