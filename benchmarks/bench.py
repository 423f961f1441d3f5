"""What every measurement has at hand, and what it makes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from benchmarks.data import Source, Table

T = TypeVar("T")
Found = dict[str, Any]  # as JSON has it


@dataclass(frozen=True)
class Bench:
    """A run.

    Attributes:
        source: of tables.
        folder: for files; it goes with the run.
        quick: measures less, to try whether all works.
    """

    source: Source
    folder: Path
    quick: bool

    def pick(self, full: T, quick: T) -> T:
        """One for a run that counts, another to try."""
        return quick if self.quick else full

    def save(self, table: Table) -> tuple[Path, Path]:
        """Saves the rows and the queries of a table, in place of those saved before."""
        paths = self.folder / "rows.npy", self.folder / "queries.npy"
        for path, content in zip(paths, (table.rows, table.queries), strict=True):
            path.unlink(missing_ok=True)  # a file that is still mapped stays as it is
            np.save(path, content)
        return paths


@dataclass(frozen=True)
class Line:
    """A goal, and how far it was reached.

    Attributes:
        work: what was measured.
        ours: what this program took.
        alternative: what another took.
        ratio: of the two, from 1 on where this program is better; None where it was not measured, or there is none.
        target: what was to be reached.
        met: whether it was; None where it was not measured.
    """

    work: str
    ours: str
    alternative: str
    ratio: float | None
    target: str
    met: bool | None


def missing(work: str, target: str, reason: str) -> Line:
    """A goal that could not be measured."""
    return Line(work, f"not measured: {reason}", "", None, target, None)


class Section(Protocol):
    """A part of the benchmarks: a module with these functions, of which `plot` may be missing."""

    measure: Callable[[Bench], Found]  # what was found, to be kept
    report: Callable[[Found], str]  # Markdown
    lines: Callable[[Found], list[Line]]  # its goals
