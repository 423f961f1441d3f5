"""Finds the GPU, once in a process."""

import json
import logging
import subprocess
import sys
import threading
from functools import cache

import faiss

from knn_container.gpu import runtime
from knn_container.gpu.card import FAILURES, Card
from knn_container.gpu.runtime import CudaError, Device

_TRIAL = (sys.executable, "-m", "knn_container.gpu.trial")
_SECONDS = 300  # for the trial: on a GPU newer than FAISS, CUDA first compiles its programs

_lock = threading.Lock()

log = logging.getLogger(__name__)


def find() -> Card | None:
    """The GPU that FAISS works on in this process, or None; the log says which, or why there is none, once.

    `CUDA_VISIBLE_DEVICES` says which GPUs may be seen, and empty hides all. Of several it is the one with the most
    free memory. It must not be called in a process that forks others, for which CUDA would not work.
    """
    with _lock:
        return _find()


@cache
def _find() -> Card | None:
    try:
        card = _look()
    except (CudaError, *FAILURES) as error:
        log.info("FAISS works on the CPU: %s.", error)
        return None
    log.info("FAISS can work on GPU %d, %s, with %.1f GiB.", card.number, card.name, card.device.memory / (1 << 30))
    return card


def _look() -> Card:
    if not hasattr(faiss, "StandardGpuResources"):
        raise CudaError("it was built without code for GPUs (faiss-cpu)")
    runtime.check_driver(runtime.load())
    return Card(_try())


def _try() -> Device:
    """Has a process of its own try the GPU, which may end it."""
    try:
        done = subprocess.run(_TRIAL, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise CudaError(f"a trial of the GPU took more than {_SECONDS} seconds") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CudaError(f"a trial of the GPU failed: {last}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "reason" in answer:
        raise CudaError(answer["reason"])
    return Device(**answer["device"])
