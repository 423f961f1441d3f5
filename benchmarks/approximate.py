"""Approximate search: speed against recall."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.bench import Bench, Found, Line
from benchmarks.figures import recall
from benchmarks.plots import Curve, Panel, draw
from benchmarks.programs import NotMeasured, say
from benchmarks.readme import number, table
from benchmarks.team import FAISS_BLAS, OURS, Contestant, Task, gathered
from benchmarks.venvs import OWN

_K, _BATCH = 10, 581
_PROBES = (1, 2, 4, 8, 16, 32, 64)
_EFFORTS = (10, 16, 32, 64, 128, 256)
_CURVES: tuple[tuple[Contestant, tuple[Any, ...]], ...] = (
    (OURS, (None,)),
    (Contestant("knn-container, faiss.IVFFlat", OWN, "with_ours.py", "IVFFlat"), _PROBES),
    (Contestant("knn-container, faiss.IVFSQ8", OWN, "with_ours.py", "IVFSQ8"), _PROBES),
    (Contestant("knn-container, faiss.HNSW", OWN, "with_ours.py", "HNSW"), (None,)),
    (FAISS_BLAS, ("BLAS",)),
    (Contestant("FAISS, IVF", "faiss", "with_faiss.py", "IVF"), _PROBES),
    (Contestant("FAISS, HNSW", "faiss", "with_faiss.py", "HNSW"), _EFFORTS),
    (Contestant("hnswlib", "hnswlib", "with_hnswlib.py", "HNSW"), _EFFORTS),
    (Contestant("usearch", "usearch", "with_usearch.py", "HNSW"), _EFFORTS),
)


def _entrants() -> Iterator[tuple[Contestant, Contestant]]:
    """Each curve's contestant, and itself at each setting."""
    for who, settings in _CURVES:
        for setting in settings:
            yield who, replace(who, title=f"{who.title} {setting}", setting=setting)


def measure(bench: Bench) -> Found:
    """Races at every setting, and counts what each finds."""
    made = bench.source.table("fashion", bench.pick(60_000, 5_000), 784, 10_000 if not bench.quick else 1_000)
    saved, queries = bench.save(made)
    batch = min(_BATCH, len(made.queries))
    entrants = list(_entrants())
    with gathered(it for _, it in entrants) as team:
        built = team.hold(saved)
        seconds = team.race(Task(queries, batch, _K), bench.pick(60.0, 2.0), least=3)
        true = team.answers(entrants[0][1].title, queries, batch, _K)
        points = []
        for who, it in entrants:
            try:
                found = team.answers(it.title, queries, batch, _K)
                points.append(
                    {
                        "curve": who.title,
                        "setting": it.setting,
                        "recall": recall(made.rows, made.queries[:batch], found, true),
                        "seconds": median(seconds[it.title]) / batch,
                        "built": built[it.title],
                    }
                )
            except (NotMeasured, KeyError) as reason:
                say(f"{it.title}: {reason}")
        return {
            "name": bench.source.name("fashion"),
            "rows": len(made.rows),
            "columns": int(np.shape(made.rows)[1]),
            "batch": batch,
            "points": points,
            "missing": {title.rsplit(" ", 1)[0]: reason for title, reason in team.missing.items()},
        }


def plot(found: Found, folder: Path) -> None:
    """Queries a second against what is missed."""
    curves = [
        Curve(title, [(max(1e-4, 1 - it["recall"]), 1 / it["seconds"]) for it in points])
        for title, points in _by_curve(found).items()
    ]
    title = f"{found['name']}, {found['rows']:,} x {found['columns']}, batches of {found['batch']}"
    draw([Panel(title, "1 - recall@10 (left is better)", "queries a second", curves)], folder / "approximate.svg")


def _by_curve(found: Found) -> dict[str, list[dict[str, Any]]]:
    curves: dict[str, list[dict[str, Any]]] = {}
    for it in found["points"]:
        curves.setdefault(it["curve"], []).append(it)
    return curves


def report(found: Found) -> str:
    """The plot, and for each curve the fastest setting that finds 99 %."""
    rows = []
    for title, points in _by_curve(found).items():
        good = [it for it in points if it["recall"] >= 0.99]
        best = min(good, key=lambda it: it["seconds"]) if good else max(points, key=lambda it: it["recall"])
        setting = "" if best["setting"] is None or len(points) == 1 else str(best["setting"])
        rows.append((title, setting, f"{best['recall']:.4f}", number(1000 * best["seconds"]), number(best["built"])))
    rows += [(title, f"not measured: {reason}", "", "", "") for title, reason in found["missing"].items()]
    heads = ("", "nprobe or ef", "recall@10", "ms a query", "built in, s")
    return (
        "![Queries a second against recall](docs/benchmarks/approximate.svg)\n\n"
        f"{found['name']}, {found['rows']:,} x {found['columns']}, batches of {found['batch']}: the fastest setting "
        "with a recall@10 of 0.99 or, where there is none, the one with the highest.\n\n" + table(heads, rows)
    )


def lines(found: Found) -> list[Line]:  # noqa: ARG001 (what was promised of approximate search is the trainer's)
    """No goals."""
    return []
