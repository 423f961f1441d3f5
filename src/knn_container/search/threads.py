"""Spreads what NumPy computes over threads: as many as FAISS may use in the thread that asks. Searches have C's own."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeVar

import faiss
from threadpoolctl import ThreadpoolController

T = TypeVar("T")


def spread(work: Callable[[slice], T], count: int, least: int = 1) -> list[T]:
    """Does work on parts of `count` things, side by side; the work does not use FAISS.

    Args:
        work: takes a part.
        count: how many things there are.
        least: things that are worth a thread.

    Returns:
        What it gave, in the order of the parts.
    """
    threads = min(faiss.omp_get_max_threads(), max(1, count // least))
    if threads == 1:
        return [work(slice(0, count))]
    borders = [count * number // threads for number in range(threads + 1)]
    try:
        others = [_pool().submit(partial(work, slice(*borders[i : i + 2]))) for i in range(1, threads)]
    except RuntimeError:  # the interpreter is about to end, and begins no more threads
        return [work(slice(0, count))]
    mine = work(slice(0, borders[1]))
    return [mine, *(other.result() for other in others)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="search")


os.register_at_fork(after_in_child=_pool.cache_clear)  # the threads are the parent's


@cache
def multiply_alone() -> None:
    """Has NumPy multiply matrices in the thread that asks, for the whole process.

    Its threads go on to wait busily once they have multiplied, and hold up those of a search; each takes up to 32 MB.
    FAISS's matrix products are those of a library of its own, and stay as they are.
    """
    ThreadpoolController().select(prefix="libscipy_openblas").limit(limits=1)
