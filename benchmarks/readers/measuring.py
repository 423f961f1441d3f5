"""Measures one reading of a file in this process, which is a fresh one.

Programs of this folder run in the alternatives' environments, where of this project nothing is installed.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[Any]


class Total:
    """Sums up what was read, so that equal files can be told: rows, and the sum of all their numbers."""

    def __init__(self) -> None:
        self.rows = 0
        self.sum = 0.0

    def add(self, features: Table, labels: Table) -> None:
        """Adds (n, d) features and (n,) labels."""
        self.rows += len(features)
        self.sum += float(features.sum(dtype=np.float64)) + float(labels.sum(dtype=np.float64))


def measure(read: Callable[[str, Total], None]) -> None:
    """Reads the file that the command line names and prints seconds, and the peak of memory above what was before."""
    total = Total()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _peak()
    start = time.perf_counter()
    read(sys.argv[1], total)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": _peak() - before, "rows": total.rows, "sum": total.sum}))


def _peak() -> int:
    """The largest resident memory so far, in bytes."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return 1024 * int(found[1])
