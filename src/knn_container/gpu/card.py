"""A GPU at work for FAISS.

What FAISS's code for GPUs limits (faiss-gpu 1.15.1): `getMaxKSelection` and `validateNProbe` in
faiss/gpu/impl/IndexUtils.cu, `isSupportedPQCodeLength` in impl/IVFPQ.cu, and `verifyPQSettings_` in GpuIndexIVFPQ.cu.
"""

import threading

import faiss

from knn_container.batch import Float32Array, Int64Array
from knn_container.gpu import runtime
from knn_container.gpu.runtime import CudaError, Device

LARGEST = 2048  # candidates of a query, and lists that it looks into
CODES = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)  # of a row under product quantisation
FAILURES = (RuntimeError, MemoryError, CudaError)  # as FAISS's and CUDA's errors come
_TABLE = 4 * 256  # bytes of shared memory for each code: the distances to its centroids, in float32
_LIST = 32  # rows to a multiple of which a list is filled up
_NUMBER = 8  # bytes of a row's number
_OLDEST = 70  # the compute capability that faiss-gpu 1.15.1 is compiled for at least
_TEMPORARY = 512 << 20  # bytes that FAISS keeps for its work; by itself it would take 1.5 GiB
_MARGIN = 1 << 30  # bytes to leave: where CUDA's own libraries find no memory, FAISS ends the process


class Card:
    """A GPU, on which one thread of this process at a time may work.

    FAISS's resources of a GPU are not safe to use from several threads at once, whatever the indexes ("Threads and
    asynchronous calls" in FAISS's wiki).

    Attributes:
        device: what CUDA says of it.
        lock: to be held by whoever uses an index on it.

    Raises:
        CudaError: FAISS has no code for it.
    """

    def __init__(self, device: Device) -> None:
        if device.capability < _OLDEST:
            has, needs = divmod(device.capability, 10), divmod(_OLDEST, 10)
            raise CudaError(
                f"{device.name} has the compute capability {has[0]}.{has[1]}, FAISS needs {needs[0]}.{needs[1]} or more"
            )
        self.device = device
        self.lock = threading.Lock()
        self._resources = faiss.StandardGpuResources()
        self._resources.setTempMemory(_TEMPORARY)
        self._resources.setPinnedMemory(0)  # for transfers of 256 MiB and more, which there are not
        self._options = faiss.GpuClonerOptions()
        self._options.use_cuvs = False

    @property
    def name(self) -> str:
        """The maker's."""
        return self.device.name

    @property
    def number(self) -> int:
        """CUDA's."""
        return self.device.number

    def room(self) -> int:
        """The bytes that indexes may take, as far as nobody else takes them first.

        Raises:
            CudaError: the GPU cannot be used any more.
        """
        free, _ = runtime.memory(runtime.load(), self.number)
        return max(0, free - _MARGIN - _TEMPORARY)

    def copy(self, index: faiss.Index) -> faiss.Index:
        """Copies an index to the GPU; to be searched under `lock`.

        Raises:
            RuntimeError: FAISS or the GPU cannot.
        """
        with self.lock:
            return faiss.index_cpu_to_gpu(self._resources, self.number, index, self._options)


class ListsOnCard:
    """A copy of inverted lists on a GPU; safe to search from several threads at once.

    Raises:
        RuntimeError: FAISS or the GPU cannot.
    """

    def __init__(self, card: Card, index: faiss.IndexIVF) -> None:
        self.card = card
        self._copy = card.copy(index)

    @staticmethod
    def takes(wanted: int, nprobe: int) -> bool:
        """Whether FAISS can search so many lists for so many candidates on a GPU."""
        return max(wanted, nprobe) <= LARGEST

    def search(
        self, queries: Float32Array, wanted: int, lists: Int64Array, distances: Float32Array
    ) -> tuple[Float32Array, Int64Array]:
        """Searches lists that are known, so that those on the CPU and on the GPU cannot differ.

        Args:
            queries: (n, d).
            wanted: how many candidates.
            lists: (n, nprobe) to look into, nearest first.
            distances: (n, nprobe) of their centroids.

        Returns:
            (n, wanted) values and row numbers, -1 for none.

        Raises:
            RuntimeError: FAISS or the GPU cannot.
        """
        with self.card.lock:
            self._copy.nprobe = lists.shape[1]
            values, rows = self._copy.search_preassigned(queries, wanted, lists, distances)
        return values, rows


def obstacle(card: Card, index: faiss.Index) -> str | None:
    """What keeps an index from being searched on a GPU, or None.

    Raises:
        CudaError: the GPU cannot be used any more.
    """
    if not isinstance(index, faiss.IndexFlat | faiss.IndexIVFFlat | faiss.IndexIVFPQ | faiss.IndexIVFScalarQuantizer):
        return f"FAISS has no {type(index).__name__} for GPUs"
    if isinstance(index, faiss.IndexIVFPQ):
        codes = index.pq.M
        if codes not in CODES:
            return f"FAISS's code for GPUs takes {', '.join(map(str, CODES))} codes to a row, this index has {codes}"
        if codes * _TABLE > card.device.shared_memory:
            return (
                f"{codes} codes to a row need {codes * _TABLE} bytes of shared memory, {card.name} has "
                f"{card.device.shared_memory}"
            )
    if (needed := _bytes_needed(index)) > (room := card.room()):
        return f"the index takes {needed >> 20} MiB, {card.name} has room for {room >> 20}"
    return None


def _bytes_needed(index: faiss.Index) -> int:
    """The GPU memory that a copy of an index takes at most."""
    if isinstance(index, faiss.IndexFlat):
        return int(index.ntotal * (index.d + 1) * 4)
    rows = index.ntotal + _LIST * index.nlist
    centroids = index.nlist * (index.d + 1) * 4
    return int(rows * (index.code_size + _NUMBER) + centroids)
