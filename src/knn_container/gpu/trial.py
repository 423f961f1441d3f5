"""Tries FAISS on the GPUs, as a program of its own, and prints what came of it as JSON.

Where CUDA fails, FAISS ends its process: with a driver or a GPU that it was not made for, for instance. This program
then ends in place of a training job or a server.
"""

import json
from dataclasses import asdict
from typing import Any

import faiss
import numpy as np

from knn_container.gpu import runtime
from knn_container.gpu.card import Card
from knn_container.gpu.runtime import CudaError, Device

_ROWS, _QUERIES, _COLUMNS = 1024, 64, 64
_SEED = 0


def main() -> None:
    """Prints `{"device": ...}`, the GPU with the most free memory, or `{"reason": ...}`, why there is none."""
    print(json.dumps(look()))


def look() -> dict[str, Any]:
    """What `main` prints."""
    try:
        cuda = runtime.load()
        runtime.check_driver(cuda)
        seen = runtime.devices(cuda)
    except CudaError as error:
        return {"reason": str(error)}
    if not seen:
        return {"reason": "CUDA shows no GPU"}
    best = max(seen, key=lambda device: device.free)
    return {"reason": reason} if (reason := _try(best)) else {"device": asdict(best)}


def _try(device: Device) -> str | None:
    """Searches a few rows, and checks the products: the bounds of exact search need the precision of float32.

    A sum of products is off by at most d units of rounding (Higham, "Accuracy and Stability of Numerical Algorithms",
    section 3.1); with NVIDIA's TF32, of 10 bits, it is off by hundreds.
    """
    rng = np.random.default_rng(_SEED)
    rows = rng.normal(size=(_ROWS, _COLUMNS)).astype(np.float32)
    queries = rng.normal(size=(_QUERIES, _COLUMNS)).astype(np.float32)
    index = faiss.IndexFlat(_COLUMNS, faiss.METRIC_INNER_PRODUCT)
    index.add(rows)
    values, numbers = Card(device).copy(index).search(queries, _ROWS)
    exact = queries.astype(np.float64) @ rows.astype(np.float64).T
    lengths = np.linalg.norm(queries, axis=1)[:, np.newaxis] * np.linalg.norm(rows, axis=1)
    bound = 2 * _COLUMNS * float(np.finfo(np.float32).eps) * lengths
    if (np.sort(numbers, axis=1) != np.arange(_ROWS)).any():
        return f"{device.name} lost rows of a search"
    error = np.abs(values - np.take_along_axis(exact, numbers, axis=1))
    if (error > np.take_along_axis(bound, numbers, axis=1)).any():
        return f"{device.name} does not multiply in float32"
    return None


if __name__ == "__main__":
    main()
