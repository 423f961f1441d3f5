"""Tables to measure on, the same every time: made here, or read from a folder.

UCI's Covertype, which AWS's announcement of the algorithm uses, has ten columns of whole numbers and 44 that are 0 or
1, of which two are 1: its rows lie in few directions. Fashion-MNIST by Zalando has images of 28 by 28 pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Labels = NDArray[np.float32]
KINDS = ("uniform", "clustered", "covertype", "fashion")
_CENTRES = 100
_SIDE, _DIRECTIONS = 28, 24
_JITTER = 3


@dataclass(frozen=True)
class Table:
    """Rows to search in, with labels, and queries of the same distribution."""

    rows: Rows
    labels: Labels
    queries: Rows
    truth: Labels

    @classmethod
    def split(cls, rows: Rows, labels: Labels, queries: int) -> "Table":
        """Takes the last rows as queries."""
        count = len(rows) - queries
        return cls(rows[:count], labels[:count], rows[count:], labels[count:])


def uniform(random: Generator, rows: int, columns: int) -> tuple[Rows, Labels]:
    """Rows without any structure: the hardest to search."""
    return random.random((rows, columns), np.float32), _classes(random, rows)


def clustered(random: Generator, rows: int, columns: int) -> tuple[Rows, Labels]:
    """A mixture of 100 Gaussians; labels name the centres, modulo 7."""
    centres = random.random((_CENTRES, columns), np.float32)
    chosen = random.integers(0, _CENTRES, rows)
    made = random.standard_normal((rows, columns), np.float32)
    made *= np.float32(0.1)
    made += centres[chosen]
    return made, (chosen % 7).astype(np.float32)


def covertype(random: Generator, rows: int, columns: int) -> tuple[Rows, Labels]:
    """Ten skewed, correlated columns of whole numbers and two groups of 4 and 40 columns of which one each is 1."""
    if columns != 54:
        raise ValueError(f"covertype has 54 columns, {columns} were asked for")
    area = random.choice(4, rows, p=[0.45, 0.05, 0.44, 0.06])
    elevation = np.array([3000, 3200, 2950, 2250])[area] + random.normal(0, 200, rows)
    aspect, slope = random.uniform(0, 360, rows), random.gamma(3.5, 4, rows).clip(0, 60)
    water = random.gamma(1.3, 210, rows)
    soil = (np.abs(elevation - 1850) / 48 + random.normal(0, 2.5, rows)).clip(0, 39).astype(int)
    made = np.zeros((rows, 54), np.float32)
    made[:, 0], made[:, 1], made[:, 2], made[:, 3] = elevation, aspect, slope, water
    made[:, 4] = water * random.normal(0.2, 0.15, rows)
    made[:, 5] = (random.gamma(2, 1150, rows) + (elevation - 2900)).clip(0, 7117)
    for column, sun in ((6, 60), (7, 180), (8, 285)):  # the shade of a hill at nine, noon and three
        lit = np.cos(np.radians(slope)) * 0.85 + np.sin(np.radians(slope)) * np.cos(np.radians(aspect - sun))
        made[:, column] = (255 * lit).clip(0, 254)
    made[:, 9] = random.gamma(2.2, 900, rows).clip(0, 7173)
    np.rint(made, out=made)
    made[np.arange(rows), 10 + area] = 1
    made[np.arange(rows), 14 + soil] = 1
    labels = np.digitize(elevation + random.normal(0, 60, rows), [2200, 2450, 2650, 2850, 3050, 3250]) + 1
    return made, labels.astype(np.float32)


def fashion(random: Generator, rows: int, columns: int) -> tuple[Rows, Labels]:
    """Images of ten classes: smooth patterns in a class's own directions, from 0 to 255, with a dark edge."""
    if columns != _SIDE**2:
        raise ValueError(f"fashion has {_SIDE**2} columns, {columns} were asked for")
    line = np.linspace(0, np.pi, _SIDE)
    waves = np.stack([np.sin(n * line) for n in range(1, 9)])
    basis = np.einsum("ax,by->abxy", waves, waves).reshape(64, columns).astype(np.float32)
    labels = random.integers(0, 10, rows)
    made = np.empty((rows, columns), np.float32)
    for label in range(10):
        mine = np.flatnonzero(labels == label)
        middle = random.normal(0, 60, 64).astype(np.float32)
        directions = random.normal(0, 12, (_DIRECTIONS, 64)).astype(np.float32)
        weights = middle + random.standard_normal((len(mine), _DIRECTIONS), np.float32) @ directions
        made[mine] = weights @ basis + random.normal(0, 8, (len(mine), columns)).astype(np.float32)
    return np.rint(made.clip(0, 255)), labels.astype(np.float32)


def _classes(random: Generator, rows: int) -> Labels:
    return random.integers(0, 7, rows).astype(np.float32)


_MAKERS: dict[str, Callable[[Generator, int, int], tuple[Rows, Labels]]] = {
    "uniform": uniform,
    "clustered": clustered,
    "covertype": covertype,
    "fashion": fashion,
}


@dataclass(frozen=True)
class Source:
    """Gives tables.

    Attributes:
        folder: holds `covertype-small.npz` (`X`, `y`) and `fashion-mnist.npz` (`x_train`, `y_train`, `x_test`,
            `y_test`), to be used in place of what is made; either may be missing.
    """

    folder: Path | None = None

    def table(self, kind: str, rows: int, columns: int, queries: int, seed: int = 0) -> Table:
        """Gives so many rows and queries of one of `KINDS`."""
        random = np.random.default_rng(seed)
        if self.folder and kind == "covertype" and (path := self.folder / "covertype-small.npz").exists():
            return _resampled(random, path, rows, queries)
        if self.folder and kind == "fashion" and (path := self.folder / "fashion-mnist.npz").exists():
            return _images(path, rows, queries)
        return Table.split(*_MAKERS[kind](random, rows + queries, columns), queries)

    def name(self, kind: str) -> str:
        """Says what a kind of table is."""
        is_real = self.folder is not None
        if kind == "covertype":
            real = is_real and (self.folder / "covertype-small.npz").exists()  # type: ignore[operator]
            return "Covertype, resampled with jitter" if real else "covertype-like"
        if kind == "fashion":
            real = is_real and (self.folder / "fashion-mnist.npz").exists()  # type: ignore[operator]
            return "Fashion-MNIST" if real else "Fashion-MNIST-like"
        return kind


def _resampled(random: Generator, path: Path, rows: int, queries: int) -> Table:
    """Draws rows with a small jitter on the columns of whole numbers: equal rows are as rare as in the whole set."""
    with np.load(path) as file:
        features, labels = file["X"].astype(np.float32), file["y"].astype(np.float32)
    chosen = random.integers(0, len(features), rows + queries)
    made = features[chosen]
    made[:, :10] += random.integers(-_JITTER, _JITTER + 1, (len(made), 10))
    return Table.split(made, labels[chosen], queries)


def _images(path: Path, rows: int, queries: int) -> Table:
    with np.load(path) as file:
        names = ("x_train", "y_train", "x_test", "y_test")
        train, labels, test, truth = (np.asarray(file[name], np.float32) for name in names)
    return Table(train[:rows], labels[:rows], test[:queries], truth[:queries])
