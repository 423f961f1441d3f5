"""A GPU that FAISS and CUDA seem to have.

Its indexes stay in the machine's memory. It has the limits of FAISS's code for GPUs, and does not bear two threads at
once.
"""

import ctypes
import threading
import time

import faiss

from knn_container.gpu.runtime import Device

GIB = 1 << 30
DEVICE = Device(number=1, name="Fake 9000", memory=16 * GIB, free=8 * GIB, shared_memory=48 << 10, capability=90)


class FakeCuda:
    """The functions of the CUDA runtime that are called; `errors` says which fail and how."""

    def __init__(self, names=("Fake 9000",), driver=12090, free=(8 * GIB,), errors=None):
        self.names, self.driver, self.free, self.errors = names, driver, list(free), errors or {}
        self.current, self.forgotten = 0, 0

    def __getattr__(self, name):
        if not name.startswith("cuda"):
            raise AttributeError(name)
        return lambda *arguments: self.errors.get(name) or getattr(self, f"_{name}")(*arguments) or 0

    def cudaGetErrorString(self, error):  # noqa: N802
        return {35: b"CUDA driver version is insufficient", 100: b"no CUDA-capable device"}.get(error, b"it broke")

    def cudaGetLastError(self):  # noqa: N802
        self.forgotten += 1

    def _cudaDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = self.driver

    def _cudaGetDeviceCount(self, count):  # noqa: N802
        count._obj.value = len(self.names)

    def _cudaSetDevice(self, device):  # noqa: N802
        self.current = device

    def _cudaMemGetInfo(self, free, total):  # noqa: N802
        free._obj.value, total._obj.value = self.free[self.current], 16 * GIB

    def _cudaGetDeviceProperties_v2(self, properties, number):  # noqa: N802
        ctypes.memmove(properties, self.names[number].encode() + b"\0rest", len(self.names[number]) + 5)

    def _cudaDeviceGetAttribute(self, value, attribute, number):  # noqa: N802
        value._obj.value = {8: 49152, 75: 8, 76: 6}[attribute]


class FakeIndex:
    """Inverted lists or rows on the fake GPU; counts its searches."""

    def __init__(self, faked, copied):
        self._faked, self._copied = faked, copied
        self.nprobe = 1

    def search(self, queries, k):
        with self._faked.one_at_a_time():
            assert k <= 2048
            return self._copied.search(queries, k)

    def search_preassigned(self, queries, k, lists, distances):
        with self._faked.one_at_a_time():
            assert max(k, self.nprobe) <= 2048
            assert lists.shape == distances.shape == (len(queries), self.nprobe)
            assert isinstance(self._copied, faiss.IndexIVFFlat | faiss.IndexIVFPQ | faiss.IndexIVFScalarQuantizer)
            self._copied.nprobe = self.nprobe
            return self._copied.search_preassigned(queries, k, lists, distances)


class FakeFaiss:
    """What FAISS has beside its indexes when it is built for GPUs."""

    def __init__(self):
        self.searches = self.copies = 0
        self.fails_from = {"copy": 10**9, "search": 10**9}
        self.pause = 0.0
        self.temporary = self.pinned = None
        self.trained = []  # the indexes that k-means was given
        self._busy = threading.Lock()

    def one_at_a_time(self):
        assert self._busy.acquire(blocking=False), "two threads use the GPU"
        return _Turn(self)

    def options(self):
        return type("GpuClonerOptions", (), {"use_cuvs": True})()

    def resources(self):
        faked = self

        class StandardGpuResources:
            def setTempMemory(self, size):  # noqa: N802
                faked.temporary = size

            def setPinnedMemory(self, size):  # noqa: N802
                faked.pinned = size

        return StandardGpuResources()

    def index_cpu_to_gpu(self, resources, device, original, options):
        assert (device, options.use_cuvs) == (1, False)
        self.copies += 1
        if self.copies >= self.fails_from["copy"]:
            raise RuntimeError("cudaMalloc error out of memory")
        copied = faiss.clone_index(original)
        if original.ntotal:
            return FakeIndex(self, copied)
        self.trained.append(copied)  # FAISS's k-means takes an index of FAISS alone
        return copied


class _Turn:
    def __init__(self, faked):
        self._faked = faked

    def __enter__(self):
        self._faked.searches += 1
        if self._faked.searches >= self._faked.fails_from["search"]:
            self.__exit__()
            raise RuntimeError("CUDA error 700 an illegal memory access was encountered")
        time.sleep(self._faked.pause)

    def __exit__(self, *_):
        self._faked._busy.release()
