"""What CUDA says of the GPUs.

The functions are those of the CUDA runtime that FAISS has loaded (CUDA Runtime API, "Version Management", "Device
Management" and "Memory Management"). FAISS's own ones end the process where CUDA fails.
"""

import ctypes
from dataclasses import dataclass
from typing import Any

_SHARED_MEMORY_PER_BLOCK, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 8, 75, 76  # cudaDeviceAttr
_PROPERTIES = 1 << 14  # bytes, more than cudaDeviceProp has in any version; it begins with the name
_NAME = 256


class CudaError(Exception):
    """CUDA cannot do what it was asked for; says why."""


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        number: CUDA's, among those that are visible.
        name: the maker's.
        memory: bytes.
        free: bytes that nobody used when it was asked.
        shared_memory: bytes that a block of threads shares.
        capability: of computing, ten times the major number and the minor one.
    """

    number: int
    name: str
    memory: int
    free: int
    shared_memory: int
    capability: int


def load() -> Any:
    """The CUDA runtime of this process: FAISS loads it where all can see it.

    Raises:
        CudaError: this FAISS has none.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "cudaGetDeviceCount"):
        raise CudaError("FAISS came without CUDA")
    library.cudaGetErrorString.restype = ctypes.c_char_p
    return library


def check_driver(cuda: Any) -> None:
    """Checks that there is a driver, without waking a GPU.

    Raises:
        CudaError: there is none.
    """
    version = ctypes.c_int()
    _call(cuda, "cudaDriverGetVersion", ctypes.byref(version))
    if not version.value:
        raise CudaError("this container has no NVIDIA driver (`docker run --gpus all` brings the machine's)")


def devices(cuda: Any) -> list[Device]:
    """The GPUs that this process may see. It wakes each, which takes memory on it until the process ends.

    Raises:
        CudaError: a GPU, or the driver, cannot be used.
    """
    count = ctypes.c_int()
    _call(cuda, "cudaGetDeviceCount", ctypes.byref(count))
    return [_describe(cuda, number) for number in range(count.value)]


def memory(cuda: Any, device: int) -> tuple[int, int]:
    """The bytes of a GPU that are free, and all that it has.

    Raises:
        CudaError: it cannot be used.
    """
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call(cuda, "cudaSetDevice", device)
    _call(cuda, "cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def _describe(cuda: Any, number: int) -> Device:
    free, total = memory(cuda, number)
    properties = ctypes.create_string_buffer(_PROPERTIES)
    latest = "cudaGetDeviceProperties_v2"  # since CUDA 12
    _call(cuda, latest if hasattr(cuda, latest) else "cudaGetDeviceProperties", properties, number)
    shared, major, minor = (
        _attribute(cuda, which, number) for which in (_SHARED_MEMORY_PER_BLOCK, _CAPABILITY_MAJOR, _CAPABILITY_MINOR)
    )
    name = properties.raw[:_NAME].partition(b"\0")[0].decode(errors="replace")
    return Device(number, name, total, free, shared, 10 * major + minor)


def _attribute(cuda: Any, attribute: int, number: int) -> int:
    value = ctypes.c_int()
    _call(cuda, "cudaDeviceGetAttribute", ctypes.byref(value), attribute, number)
    return value.value


def _call(cuda: Any, name: str, *arguments: Any) -> None:
    if error := getattr(cuda, name)(*arguments):
        cuda.cudaGetLastError()  # forgets it, or FAISS would take it for one of its own and end the process
        raise CudaError(f"{name}: {cuda.cudaGetErrorString(error).decode()} (CUDA error {error})")
