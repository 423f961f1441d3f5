import sys
import threading
import time

import faiss
import pytest
from fake_gpu import DEVICE, FakeCuda

from knn_container.gpu import finding, runtime


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ('print(\'{"reason": "the driver is asleep"}\')', "the driver is asleep"),
        ("import os, sys; print('Faiss assertion failed', file=sys.stderr, flush=True); os.abort()", "Faiss assertion"),
        ("raise SystemExit(1)", "it said nothing"),
        ("import time; time.sleep(60)", "more than 0.5 seconds"),
    ],
)
def test_a_trial_that_fails_is_told_with_its_reason_once(fake, cuda, fresh, monkeypatch, messages, program, reason):
    monkeypatch.setattr(finding, "_TRIAL", (sys.executable, "-c", program))
    if "sleep(60)" in program:
        monkeypatch.setattr(finding, "_SECONDS", 0.5)
    assert finding.find() is None
    assert finding.find() is None
    (line,) = messages()
    assert line.startswith("FAISS works on the CPU: ")
    assert reason in line


def test_a_gpu_that_passes_the_trial_is_found_and_told_once(fake, cuda, fresh, monkeypatch, messages):
    answer = '{"device": {"number": 1, "name": "Fake 9000", "memory": 17179869184, "free": 8589934592, '
    answer += '"shared_memory": 49152, "capability": 90}}'
    monkeypatch.setattr(finding, "_TRIAL", (sys.executable, "-c", f"print('noise'); print('''{answer}''')"))
    first, second = finding.find(), finding.find()
    assert first is second
    assert first.device == DEVICE
    assert messages() == ["FAISS can work on GPU 1, Fake 9000, with 16.0 GiB."]


def test_several_threads_find_the_same_gpu(fake, cuda, fresh, monkeypatch):
    tries = []

    def slow():
        tries.append(1)
        time.sleep(0.1)
        return DEVICE

    monkeypatch.setattr(finding, "_try", slow)
    came = []
    threads = [threading.Thread(target=lambda: came.append(finding.find())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) == 1
    assert len({id(it) for it in came}) == 1


def test_without_code_for_gpus_nothing_is_tried(fresh, monkeypatch, messages):
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    monkeypatch.setattr(finding, "_try", lambda: pytest.fail("a trial was made"))
    assert finding.find() is None
    assert messages() == ["FAISS works on the CPU: it was built without code for GPUs (faiss-cpu)."]


def test_without_a_driver_nothing_is_tried(fake, fresh, monkeypatch, messages):
    monkeypatch.setattr(runtime, "load", lambda: FakeCuda(driver=0))
    monkeypatch.setattr(finding, "_try", lambda: pytest.fail("a trial was made"))
    assert finding.find() is None
    assert "no NVIDIA driver" in messages()[0]
