"""Exact search over a grid of data, batch and k, beside the best of FAISS's own settings and scikit-learn."""

import csv
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import Bench, Found, Line
from benchmarks.programs import say
from benchmarks.readme import number, table, times
from benchmarks.team import FAISS, FAISS_BLAS, OURS, SKLEARN_BRUTE, SKLEARN_TREE, Task, Team, gathered

_CONTESTANTS = (OURS, FAISS, FAISS_BLAS, SKLEARN_BRUTE, SKLEARN_TREE)
_SIZES = ((1_000, 4), (10_000, 16), (100_000, 32), (200_000, 54), (60_000, 784), (1_000_000, 128))
_QUICK_SIZES = ((1_000, 4), (10_000, 16), (20_000, 54))
_BATCHES = (1, 16, 256, 4096)
_KS = (1, 10, 100)
_LARGEST = 1.3e10  # products of numbers in the largest batches; k = 10 alone may have more
_LARGEST_TEN = 5e10
_LEAST = 0.9
_DOUBTFUL = 1.15  # a ratio below which a cell is measured for longer
_WORST = 8  # cells in the README


def measure(bench: Bench) -> Found:
    """Races in every cell, and again, longer, where it is a close thing."""
    cells = []
    with gathered(_CONTESTANTS) as team:
        for kind, rows, columns in _tables(bench.pick(_SIZES, _QUICK_SIZES)):
            made = bench.source.table(kind, rows, columns, max(_BATCHES))
            saved, queries = bench.save(made)
            team.hold(saved)
            for batch, k in _batches(rows * columns, bench.pick(_KS, (10,))):
                where = {"kind": bench.source.name(kind), "rows": rows, "columns": columns, "batch": batch, "k": k}
                cells.append(where | _cell(team, bench, queries, batch, k))
            say(f"{kind} {rows} x {columns}: {min(it['ratio'] for it in cells if it['rows'] == rows):.2f} at the least")
        return {"cells": cells, "missing": team.missing}


def _tables(sizes: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, int, int]]:
    for rows, columns in sizes:
        yield "uniform", rows, columns
        yield "clustered", rows, columns
        if columns == 54:
            yield "covertype", rows, columns


def _batches(numbers: int, ks: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    for batch in _BATCHES:
        for k in ks:
            if batch < max(_BATCHES) or numbers * batch <= (_LARGEST_TEN if k == 10 else _LARGEST):
                yield batch, k


def _cell(team: Team, bench: Bench, queries: Path, batch: int, k: int) -> dict[str, Any]:
    found = team.race(Task(queries, batch, k), bench.pick(0.8, 0.1), least=3, far_behind=4)
    if _ratio(found)[0] < _DOUBTFUL:  # all rounds count, so that a lucky one cannot be picked
        more = team.race(Task(queries, batch, k), bench.pick(3.0, 0.1), least=bench.pick(5, 1), far_behind=4)
        found = {title: found.get(title, []) + more.get(title, []) for title in {*found, *more}}
    ratio, best = _ratio(found)
    return {"seconds": {title: median(values) for title, values in found.items()}, "ratio": ratio, "best": best}


def _ratio(found: dict[str, list[float]]) -> tuple[float, str]:
    """What the best of the others takes over what we take, and who that is."""
    others = {title: median(values) for title, values in found.items() if title != OURS.title}
    best = min(others, key=others.__getitem__)
    return others[best] / median(found[OURS.title]), best


def report(found: Found) -> str:
    """The spread of the ratios, and the cells in which we are worst."""
    cells = sorted(found["cells"], key=lambda it: it["ratio"])
    ratios = [it["ratio"] for it in cells]
    below = sum(ratio < _LEAST for ratio in ratios)
    heads = ("rows x columns", "data", "batch", "k", "ours, ms", "best of the others, ms", "who", "ratio")
    rows = (
        (
            f"{it['rows']:,} x {it['columns']}",
            it["kind"],
            f"{it['batch']:,}",
            str(it["k"]),
            number(1000 * it["seconds"][OURS.title]),
            number(1000 * it["seconds"][it["best"]]),
            it["best"],
            times(it["ratio"]),
        )
        for it in cells[:_WORST]
    )
    return (
        f"{len(cells)} cells; the ratio is at the median {times(median(ratios))}, at the most {times(ratios[-1])}; "
        f"{below} {'is' if below == 1 else 'are'} below {times(_LEAST)}. "
        f"These are the {min(_WORST, len(cells))} worst, [all of them](docs/benchmarks/grid.csv) are in a file.\n\n"
        + table(heads, rows)
    )


def plot(found: Found, folder: Path) -> None:
    """Writes the whole grid as a table; a plot would hide it."""
    titles = [it.title for it in _CONTESTANTS]
    with (folder / "grid.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["data", "rows", "columns", "batch", "k", "ratio", *(f"{title}, ms" for title in titles)])
        for it in found["cells"]:
            times_taken = [f"{1000 * it['seconds'][title]:.4g}" if title in it["seconds"] else "" for title in titles]
            place = [it[key] for key in ("kind", "rows", "columns", "batch", "k")]
            writer.writerow([*place, f"{it['ratio']:.2f}", *times_taken])


def lines(found: Found) -> list[Line]:
    """The worst cell."""
    worst = min(found["cells"], key=lambda it: it["ratio"])
    place = f"{worst['kind']} {worst['rows']:,} x {worst['columns']}, batch of {worst['batch']:,}, k = {worst['k']}"
    ours, theirs = worst["seconds"][OURS.title], worst["seconds"][worst["best"]]
    return [
        Line(
            f"exact, the worst of {len(found['cells'])} cells: {place}",
            f"{number(1000 * ours)} ms",
            f"{number(1000 * theirs)} ms ({worst['best']})",
            worst["ratio"],
            times(_LEAST),
            worst["ratio"] >= _LEAST,
        )
    ]
