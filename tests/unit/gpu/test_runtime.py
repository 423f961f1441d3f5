import ctypes

import pytest
from fake_gpu import GIB, FakeCuda

from knn_container.gpu import runtime
from knn_container.gpu.runtime import CudaError, Device


def test_a_gpu_is_described(cuda):
    first, second = runtime.devices(cuda)
    assert (first.number, first.name, first.free) == (0, "Other", GIB)
    assert second == Device(1, "Fake 9000", 16 * GIB, 8 * GIB, 49152, 86)
    assert runtime.memory(cuda, 1) == (8 * GIB, 16 * GIB)


def test_an_error_of_cuda_is_told_in_its_words_and_forgotten_there():
    broken = FakeCuda(errors={"cudaGetDeviceCount": 35})
    with pytest.raises(CudaError, match=r"cudaGetDeviceCount: CUDA driver version is insufficient \(CUDA error 35\)"):
        runtime.devices(broken)
    assert broken.forgotten == 1


def test_a_machine_without_a_driver_is_told_from_one_with(cuda):
    runtime.check_driver(cuda)
    with pytest.raises(CudaError, match=r"no NVIDIA driver .*--gpus all"):
        runtime.check_driver(FakeCuda(driver=0))


def test_faiss_without_cuda_has_no_runtime(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with pytest.raises(CudaError, match="without CUDA"):
        runtime.load()
