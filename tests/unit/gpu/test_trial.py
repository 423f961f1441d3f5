import subprocess
import sys

import faiss
import numpy as np
import pytest
from fake_gpu import FakeCuda, FakeIndex

from knn_container.gpu import runtime, trial


def test_the_gpu_with_the_most_free_memory_is_tried(fake, cuda):
    assert trial.look() == {"device": vars(runtime.devices(cuda)[1])}
    assert fake.searches == 1


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (FakeCuda(driver=0), "no NVIDIA driver"),
        (FakeCuda(errors={"cudaGetDeviceCount": 100}), "no CUDA-capable device"),
        (FakeCuda(errors={"cudaMemGetInfo": 2}), "cudaMemGetInfo: it broke"),
        (FakeCuda(names=()), "CUDA shows no GPU"),
    ],
)
def test_the_trial_says_why_there_is_no_gpu(fake, monkeypatch, broken, reason):
    monkeypatch.setattr(runtime, "load", lambda: broken)
    assert reason in trial.look()["reason"]


def as_tf32(rows):
    """Rounds to NVIDIA's TF32: 10 bits behind the point in place of 23."""
    return (rows.view(np.uint32) + np.uint32(1 << 12) & np.uint32(0xFFFFE000)).view(np.float32)


def test_a_gpu_that_multiplies_in_less_than_float32_is_refused(fake, cuda, monkeypatch):
    def rounded(resources, device, original, options):
        rows = original.reconstruct_n(0, original.ntotal)
        coarse = faiss.IndexFlat(original.d, original.metric_type)
        coarse.add(as_tf32(rows))
        copied = FakeIndex(fake, coarse)
        search = copied.search
        copied.search = lambda queries, k: search(as_tf32(queries), k)
        return copied

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", rounded)
    assert trial.look() == {"reason": "Fake 9000 does not multiply in float32"}


def test_a_gpu_that_loses_rows_is_refused(fake, cuda, monkeypatch):
    def forgetful(resources, device, original, options):
        copied = FakeIndex(fake, faiss.clone_index(original))
        copied.search = lambda queries, k: (np.zeros((len(queries), k), "f4"), np.zeros((len(queries), k), "i8"))
        return copied

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", forgetful)
    assert trial.look() == {"reason": "Fake 9000 lost rows of a search"}


def test_the_trial_runs_as_a_program(messages):
    done = subprocess.run([sys.executable, "-m", "knn_container.gpu.trial"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(('{"reason": "', '{"device": {'))
