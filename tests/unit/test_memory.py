import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
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


# Four threads that take memory at once; then glibc says what heaps there are.
HEAPS = """
import ctypes, sys, threading
from knn_container import heap
if sys.argv[1] == "shared":
    heap.share_one_heap()
libc, barrier = ctypes.CDLL(None), threading.Barrier(4)
def work():
    libc.malloc(5000)
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.parametrize(("told", "one"), [("shared", True), ("alone", False)])
def test_threads_share_one_heap_where_they_are_told_to(told, one):
    done = subprocess.run([sys.executable, "-c", HEAPS, told], capture_output=True, text=True, check=True)
    assert (done.stdout.count("<heap nr=") == 1) is one


def in_a_child(work):
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ones(numbers):
    numbers[:] = 1


def never(numbers):
    raise AssertionError("it is filled already")


def test_a_block_is_filled_by_one_process_and_read_by_all():
    block = memory.SharedBlock()
    assert in_a_child(lambda: block.array((3, 2), ones, b"key")) == 0
    array = block.array((3, 2), never, b"key")
    assert array.tolist() == [[1, 1]] * 3
    assert array.dtype == np.float64
    assert not array.flags.writeable


def test_a_process_that_dies_while_it_fills_a_block_leaves_it_to_the_next():
    block = memory.SharedBlock()
    assert in_a_child(lambda: block.array((3, 2), lambda numbers: os._exit(9))) == 9
    assert block.array((3, 2), ones).tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(("shape", "key"), [((3, 2), b"other"), ((2, 3), b"key"), ((4, 2), b"key")])
def test_what_was_made_of_something_else_is_not_used(shape, key):
    block = memory.SharedBlock()
    shared = block.array((3, 2), ones, b"key")
    own = block.array(shape, lambda numbers: numbers.fill(2), key)
    assert own.tolist() == [[2] * shape[1]] * shape[0]
    assert shared.tolist() == [[1, 1]] * 3


def test_the_room_of_a_process_shrinks_with_their_number():
    assert memory.room(1) > memory.room(2) > memory.room(16) > 0
