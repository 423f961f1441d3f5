import os
import re
from pathlib import Path

import pytest

from knn_container import memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def group(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory_dot_max": "1073741824\n"}, 1 << 30),
        ({"memory_dot_max": "max\n"}, MACHINE),
        ({"memory__memory_dot_limit_in_bytes": "536870912\n"}, 512 << 20),
        # What version 1 says where there is no limit.
        ({"memory__memory_dot_limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        ({"memory_dot_max": "100000\n", "memory__memory_dot_limit_in_bytes": "5\n"}, 100000),
        ({}, MACHINE),
    ],
)
def test_the_limit_is_that_of_the_group_or_the_machine(tmp_path, files, expected):
    assert memory.limit(group(tmp_path, **files)) == expected


def test_without_a_group_the_limit_is_what_the_kernel_says(tmp_path):
    total = re.search(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert memory.limit(tmp_path) == int(total[1]) << 10


def test_this_process_has_a_limit_of_at_least_some_megabytes():
    assert 16 << 20 < memory.limit() <= MACHINE
