"""Holds engines in a process of their own and answers questions about them: a line of JSON for a line of JSON.

Programs of this folder run in the alternatives' environments, where of this project nothing is installed.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


class Engine(Protocol):
    """Finds neighbours among the rows that it was made of."""

    def __call__(self, queries: Rows, k: int, setting: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Finds the k nearest rows.

        Args:
            queries: (n, d).
            k: how many.
            setting: how hard to look, in the engine's own words, or None.

        Returns:
            (n, k) distances and (n, k) row numbers.
        """


Make = Callable[..., Engine]
_PAUSE = 0.02  # seconds in which threads of another engine's process, that wait for work by spinning, fall asleep


class Holder:
    """The engines that are held, by their names, and the queries that were last asked for."""

    def __init__(self, makers: Mapping[str, Make]) -> None:
        self._makers = makers
        self._engines: dict[str, Engine] = {}
        self._path = ""
        self._queries = np.empty((0, 0), np.float32)

    def hold(self, engine: str, rows: str) -> dict[str, Any]:
        """Makes an engine of the rows in a file, in place of the one of that name."""
        self._engines.pop(engine, None)
        table = np.load(rows)
        start = time.perf_counter()
        self._engines[engine] = self._makers[engine](table)
        return {"seconds": time.perf_counter() - start}

    def forget(self) -> dict[str, Any]:
        """Lets all engines go, and the queries."""
        self._engines.clear()
        self._path = ""
        return {}

    def ask(
        self, engine: str, queries: str, *, batch: int, k: int, first: int, most: int, limit: float, setting: Any = None
    ) -> dict[str, Any]:
        """Times searches for one batch after another, `most` at most and for about `limit` seconds.

        Returns:
            The mean seconds of a batch, and how many there were.
        """
        self._load(queries)
        search, asked = self._engines[engine], 0
        time.sleep(_PAUSE)
        start = time.perf_counter()
        while asked < most and (not asked or time.perf_counter() - start < limit):
            at = (first + asked) * batch % max(1, len(self._queries) - batch + 1)
            search(self._queries[at : at + batch], k, setting)
            asked += 1
        return {"seconds": (time.perf_counter() - start) / asked, "asked": asked}

    def answer(
        self, engine: str, queries: str, *, count: int, k: int, save: str, setting: Any = None
    ) -> dict[str, Any]:
        """Saves the row numbers of what is found for the first queries."""
        self._load(queries)
        _, found = self._engines[engine](self._queries[:count], k, setting)
        np.save(save, np.asarray(found, np.int64))
        return {}

    def _load(self, path: str) -> None:
        if path != self._path:
            self._path, self._queries = path, np.load(path)


def serve(makers: Mapping[str, Make]) -> None:
    """Answers on what was standard output, until standard input ends; what else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    holder = Holder(makers)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = getattr(holder, question.pop("do"))(**question)
        except Exception as error:  # the other side decides what it means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
