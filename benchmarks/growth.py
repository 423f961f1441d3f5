"""How the time of an exact search grows with rows and with columns."""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import Bench, Found, Line
from benchmarks.plots import Curve, Panel, draw
from benchmarks.programs import say
from benchmarks.readme import number, table
from benchmarks.team import FAISS, OURS, SKLEARN_BRUTE, SKLEARN_TREE, Task, gathered

_CONTESTANTS = (OURS, FAISS, SKLEARN_BRUTE, SKLEARN_TREE)
_BATCH, _K = 256, 10
_ROWS, _COLUMNS = 20_000, 54
_BY_ROWS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
_BY_COLUMNS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
_KINDS = {"rows": ("covertype", "uniform"), "columns": ("clustered", "uniform")}


def measure(bench: Bench) -> Found:
    """Races over tables that grow, one way and the other."""
    points: list[dict[str, Any]] = []
    sizes = {
        "rows": [(rows, _COLUMNS) for rows in bench.pick(_BY_ROWS, _BY_ROWS[:3])],
        "columns": [(_ROWS, columns) for columns in bench.pick(_BY_COLUMNS, _BY_COLUMNS[:3])],
    }
    with gathered(_CONTESTANTS) as team:
        for axis, shapes in sizes.items():
            for kind in _KINDS[axis]:
                for rows, columns in shapes:
                    made = bench.source.table(kind, rows, columns, 4 * _BATCH)
                    saved, queries = bench.save(made)
                    team.hold(saved)
                    found = team.race(Task(queries, _BATCH, _K), bench.pick(1.0, 0.1), least=3)
                    seconds = {title: median(values) for title, values in found.items()}
                    where = {"axis": axis, "kind": bench.source.name(kind), "rows": rows, "columns": columns}
                    points.append(where | {"seconds": seconds})
                    say(f"{kind} {rows} x {columns}: {seconds}")
        return {"points": points, "missing": team.missing}


def plot(found: Found, folder: Path) -> None:
    """Time against rows and columns, a panel for each kind of data."""
    panels = []
    for axis, kind in _panels(found):
        points = [it for it in found["points"] if it["axis"] == axis and it["kind"] == kind]
        curves = [
            Curve(
                who.title,
                [(it[axis], 1000 * it["seconds"][who.title]) for it in points if who.title in it["seconds"]],
            )
            for who in _CONTESTANTS
        ]
        fixed = f"{_COLUMNS} columns" if axis == "rows" else f"{_ROWS:,} rows"
        panels.append(Panel(f"{kind}, {fixed}", axis, f"ms for {_BATCH} queries", curves))
    draw(panels, folder / "growth.svg")


def _panels(found: Found) -> list[tuple[str, str]]:
    return list(dict.fromkeys((it["axis"], it["kind"]) for it in found["points"]))


def report(found: Found) -> str:
    """The plot, and our own figures."""
    parts = ["![Time of an exact search against rows and columns](docs/benchmarks/growth.svg)\n"]
    for axis, kind in _panels(found):
        points = [it for it in found["points"] if it["axis"] == axis and it["kind"] == kind]
        rows = [
            (
                who.title,
                *(number(1000 * it["seconds"][who.title]) if who.title in it["seconds"] else "-" for it in points),
            )
            for who in _CONTESTANTS
        ]
        fixed = f"{_COLUMNS} columns" if axis == "rows" else f"{_ROWS:,} rows"
        heads = [f"{kind}, {fixed}; {axis}:", *(f"{it[axis]:,}" for it in points)]
        parts.append(table(heads, rows))
    return (
        "\n".join(parts)
        + f"\nms for a batch of {_BATCH} queries, k = {_K}, at the median. -: a batch takes more than 10 s, or the "
        f"tree would have more than {SKLEARN_TREE.largest // 1_000_000} million numbers.\n"
    )


def lines(found: Found) -> list[Line]:  # noqa: ARG001 (nothing was promised)
    """No goals."""
    return []
