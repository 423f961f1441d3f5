"""Exact search of one size after another, beside what else searches exactly."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.bench import Bench, Found, Line, missing
from benchmarks.figures import recall
from benchmarks.programs import NotMeasured, say
from benchmarks.readme import number, table, times
from benchmarks.team import (
    FAISS,
    FAISS_BLAS,
    OURS,
    PANORAMA,
    SKLEARN_BRUTE,
    SKLEARN_TREE,
    SKLEARNEX,
    Task,
    Team,
    gathered,
    summed_up,
)

_CONTESTANTS = (OURS, FAISS, FAISS_BLAS, PANORAMA, SKLEARN_BRUTE, SKLEARN_TREE, SKLEARNEX)
_K = 10
_TABLES = (
    ("covertype", 200_000, 54, (1, 16, 581, 10_000)),
    ("uniform", 200_000, 54, (1, 16, 581, 10_000)),
    ("fashion", 60_000, 784, (1, 581)),
)
_TARGETS = {
    ("covertype", 1): 30.0,
    ("covertype", 16): 15.0,
    ("covertype", 581): 20.0,
    ("covertype", 10_000): 10.0,
    ("uniform", 581): 5.0,
    ("fashion", 581): 1.2,
    ("fashion", 1): 5.0,
}
_CHECKED = 581  # queries whose answers are compared


def measure(bench: Bench) -> Found:
    """Races over all tables and sizes of batches."""
    tables = []
    with gathered(_CONTESTANTS) as team:
        for kind, rows, columns, batches in _TABLES:
            made = bench.source.table(kind, bench.pick(rows, rows // 10), columns, bench.pick(10_000, 1_000))
            saved, queries = bench.save(made)
            built = team.hold(saved)
            tables.append(
                {
                    "kind": kind,
                    "name": bench.source.name(kind),
                    "rows": len(made.rows),
                    "columns": columns,
                    "built": built,
                    "recall": _recall(team, queries, made.rows, made.queries, list(built)),
                    "batches": {
                        str(batch): {
                            title: asdict(it)
                            for title, it in summed_up(
                                team.race(Task(queries, batch, _K), bench.pick(8.0, 0.5), bench.pick(5, 2))
                            ).items()
                        }
                        for batch in batches
                        if batch <= len(made.queries)
                    },
                }
            )
            say(f"{kind}: {tables[-1]['batches']}")
        return {"tables": tables, "missing": team.missing}


def _recall(team: Team, queries: Path, rows: np.ndarray, asked: np.ndarray, titles: list[str]) -> dict[str, float]:
    """Each contestant's recall, with our own answers as the truth; the tests show that these are exact."""
    count = min(_CHECKED, len(asked))
    true = team.answers(OURS.title, queries, count, _K)
    found = {}
    for title in titles:
        try:
            found[title] = recall(rows, asked[:count], team.answers(title, queries, count, _K), true)
        except NotMeasured as reason:
            say(f"{title}: {reason}")
    return found


def report(found: Found) -> str:
    """A table for each kind of data."""
    parts = []
    for it in found["tables"]:
        batches = it["batches"]
        titles = [who.title for who in _CONTESTANTS if any(who.title in cell for cell in batches.values())]
        heads = ["", *(f"{int(batch):,}" for batch in batches), "recall@10", "built in, s"]
        rows = []
        for title in titles:
            cells = [number(1000 * cell[title]["median"]) if title in cell else "-" for cell in batches.values()]
            rows.append((title, *cells, f"{it['recall'].get(title, float('nan')):.4f}", number(it["built"][title])))
        parts.append(
            f"**{it['name']}, {it['rows']:,} x {it['columns']}**: ms for a batch of so many queries, k = {_K}\n\n"
            + table(heads, rows)
        )
    left_out = [f"{title} was not measured: {reason}." for title, reason in found["missing"].items()]
    note = "-: a batch takes more than 10 s. Building has our own trial of engines in it."
    return "\n".join([*parts, *(f"{line}\n" for line in [note, *left_out])])


def lines(found: Found) -> list[Line]:
    """Against FAISS as it comes."""
    made = []
    tables = {it["kind"]: it for it in found["tables"]}
    for (kind, batch), target in _TARGETS.items():
        name, rows, columns = (tables[kind][key] for key in ("name", "rows", "columns"))
        work = f"exact, {name} {rows:,} x {columns}, batch of {batch:,}"
        cell = tables[kind]["batches"].get(str(batch), {})
        if OURS.title not in cell or FAISS.title not in cell:
            made.append(missing(work, times(target), found["missing"].get(FAISS.title, "not with --quick")))
            continue
        ours, theirs = cell[OURS.title]["median"], cell[FAISS.title]["median"]
        made.append(
            Line(
                work,
                f"{number(1000 * ours)} ms",
                f"{number(1000 * theirs)} ms (FAISS Flat, as it comes)",
                theirs / ours,
                times(target),
                theirs / ours >= target,
            )
        )
    return made
