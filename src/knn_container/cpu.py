"""How many CPUs this container may use."""

import math
import os
from pathlib import Path


def budget(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The CPUs of the affinity mask or of the cgroup's quota, whichever are fewer, at least 1.

    Args:
        cgroup: where the control groups are mounted, version 1 or 2.
    """
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), _quota(cgroup))))


def origin(cgroup: Path = Path("/sys/fs/cgroup")) -> str:
    """Says what `budget` comes from."""
    quota = _quota(cgroup)
    limited = "no cgroup quota" if math.isinf(quota) else f"a cgroup quota of {quota:g}"
    return f"{len(os.sched_getaffinity(0))} in the affinity mask, {limited}"


def _quota(cgroup: Path) -> float:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except OSError:
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)
