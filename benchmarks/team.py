"""The contestants of a race: each in a process of its own that holds the data ready, asked one at a time."""

import json
import selectors
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figures, interleave
from benchmarks.programs import ROOT, NotMeasured, say
from benchmarks.venvs import OWN, python_of

_ENGINES = ROOT / "benchmarks" / "engines"
_PATIENCE = 300  # seconds for one answer
_TURN = 0.05  # seconds that a turn of small batches takes
_MOST = 64  # batches in a turn
_WARM, _PILOT = 16, 256  # queries that warm up, and that tell how long more of them would take
_SLOW = 10.0  # seconds for a batch beyond which one that may lose is left out


@dataclass(frozen=True)
class Contestant:
    """Who searches, and how.

    Attributes:
        title: for tables.
        venv: the environment.
        script: of `engines`.
        engine: by the script's name for it.
        setting: how hard to look, in the engine's own words.
        largest: numbers in a table beyond which it is not built.
        may_lose: whether it is left out of races that it would hold up.
    """

    title: str
    venv: str
    script: str
    engine: str
    setting: Any = None
    largest: int = 1 << 62
    may_lose: bool = False


OURS = Contestant("knn-container", OWN, "with_ours.py", "Flat")
FAISS = Contestant("FAISS", "faiss", "with_faiss.py", "Flat")
FAISS_BLAS = Contestant("FAISS, BLAS", "faiss", "with_faiss.py", "Flat", "BLAS")
PANORAMA = Contestant("FAISS, Panorama", "faiss", "with_faiss.py", "Panorama", may_lose=True)
SKLEARN_BRUTE = Contestant("scikit-learn, brute", "scikit-learn", "with_sklearn.py", "brute", may_lose=True)
SKLEARN_TREE = Contestant(
    "scikit-learn, kd_tree", "scikit-learn", "with_sklearn.py", "kd_tree", largest=20_000_000, may_lose=True
)
SKLEARNEX = Contestant(
    "scikit-learn-intelex, brute", "scikit-learn-intelex", "with_sklearnex.py", "brute", may_lose=True
)


@dataclass(frozen=True)
class Task:
    """What all contestants do: search for the k neighbours of queries in a file, `batch` at a time."""

    queries: Path
    batch: int
    k: int


class Worker:
    """A process that holds engines."""

    def __init__(self, venv: str, script: str) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [python_of(venv), _ENGINES / script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        """Asks and waits for the answer.

        Raises:
            NotMeasured: it failed, ended or did not answer in time.
        """
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise NotMeasured(self._last_words()) from None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(_PATIENCE):
                self._process.kill()
                raise NotMeasured(f"no answer in {_PATIENCE} s")
        line = self._process.stdout.readline()
        if not line:
            raise NotMeasured(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if reason := answer.get("error"):
            raise NotMeasured(reason)
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return f"its process ended: {lines[-1] if lines else 'nothing was said'}"

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
        self._log.close()


class Team:
    """Contestants with their processes.

    Attributes:
        missing: why some take no part, by title.
    """

    def __init__(self, contestants: Iterable[Contestant]) -> None:
        self._all = list(contestants)
        self._workers: dict[tuple[str, str], Worker] = {}
        self._held: set[str] = set()
        self.missing: dict[str, str] = {}
        for it in self._all:
            try:
                if (it.venv, it.script) not in self._workers:
                    self._workers[it.venv, it.script] = Worker(it.venv, it.script)
            except NotMeasured as reason:
                self._lose(it, str(reason))

    def hold(self, rows: Path) -> dict[str, float]:
        """Has all hold the rows of a file; returns the seconds that building took."""
        shape = np.load(rows, mmap_mode="r").shape
        for worker in self._workers.values():
            worker.ask(do="forget")
        self._held.clear()
        built: dict[tuple[str, str, str], float] = {}
        for it in self._all:
            key = (it.venv, it.script, it.engine)
            if it.title in self.missing or shape[0] * shape[1] > it.largest:
                continue
            try:
                if key not in built:
                    built[key] = self._worker(it).ask(do="hold", engine=it.engine, rows=str(rows))["seconds"]
                self._held.add(it.title)
            except NotMeasured as reason:
                self._lose(it, str(reason))
        return {it.title: built[it.venv, it.script, it.engine] for it in self._all if it.title in self._held}

    def race(self, task: Task, seconds: float, least: int = 3, far_behind: float = inf) -> dict[str, list[float]]:
        """Has all search for the same batches, in turn, and returns each's seconds a batch, round by round.

        Args:
            task: what to do.
            seconds: about how long the race takes.
            least: rounds.
            far_behind: times the fastest of the others from which one that may lose takes no part.
        """
        entrants = [it for it in self._all if it.title in self._held]
        pilots = {it.title: self._pilot(it, task) for it in entrants}
        expected = {title: took for title, took in pilots.items() if took is not None}
        others = min((took for title, took in expected.items() if title != OURS.title), default=0.0)
        limit = min(_SLOW, far_behind * others)
        entrants = [it for it in entrants if expected.get(it.title, inf) < (limit if it.may_lose else inf)]
        asking = {it.title: partial(self._turn, it, task) for it in entrants}
        found, lost = interleave(asking, seconds, least)
        for title, reason in lost.items():
            say(f"{title}: {reason}")
        return found

    def answers(self, title: str, queries: Path, count: int, k: int) -> NDArray[np.int64]:
        """The row numbers that one finds for the first queries."""
        it = self._by_title(title)
        path = queries.with_name("answers.npy")
        self._worker(it).ask(
            do="answer", engine=it.engine, queries=str(queries), count=count, k=k, save=str(path), setting=it.setting
        )
        found: NDArray[np.int64] = np.load(path)
        return found

    def close(self) -> None:
        """Ends all processes."""
        for worker in self._workers.values():
            worker.close()

    def _pilot(self, it: Contestant, task: Task) -> float | None:
        """Seconds that a batch will take about; None if it fails. Also warms up."""
        few = replace(task, batch=min(task.batch, _PILOT))
        try:
            self._ask(it, replace(task, batch=min(task.batch, _WARM)), 0, 1)
            took = self._ask(it, few, 1, 1)
        except NotMeasured as reason:
            say(f"{it.title}: {reason}")
            return None
        return took * task.batch / few.batch

    def _turn(self, it: Contestant, task: Task, turn: int) -> float:
        return self._ask(it, task, turn * _MOST, _MOST)

    def _ask(self, it: Contestant, task: Task, first: int, most: int) -> float:
        answer = self._worker(it).ask(
            do="ask", engine=it.engine, queries=str(task.queries), batch=task.batch, k=task.k, first=first, most=most,
            limit=_TURN, setting=it.setting,
        )  # fmt: skip
        seconds: float = answer["seconds"]
        return seconds

    def _worker(self, it: Contestant) -> Worker:
        return self._workers[it.venv, it.script]

    def _by_title(self, title: str) -> Contestant:
        return next(it for it in self._all if it.title == title)

    def _lose(self, it: Contestant, reason: str) -> None:
        say(f"{it.title}: {reason}")
        self.missing[it.title] = reason


@contextmanager
def gathered(contestants: Iterable[Contestant]) -> Iterator[Team]:
    """Starts contestants, and ends them."""
    team = Team(contestants)
    try:
        yield team
    finally:
        team.close()


def summed_up(found: dict[str, list[float]]) -> dict[str, Figures]:
    """Sums up a race."""
    return {title: Figures.of(values) for title, values in found.items()}
