"""How much memory this container may use."""

import os
from pathlib import Path


def limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The bytes of the cgroup's limit or of the machine, whichever are fewer.

    Args:
        cgroup: where the control groups are mounted, version 1 or 2.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroup / file).read_text().strip()
        except OSError:
            continue
        return machine if text == "max" else min(machine, int(text))
    return machine
