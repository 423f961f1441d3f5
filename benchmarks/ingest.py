"""Bytes in: RecordIO on one core, CSV on all; each reading in a process of its own."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench, Found, Line, missing
from benchmarks.figures import interleave
from benchmarks.programs import ROOT, BenchmarkError, NotMeasured, run, say
from benchmarks.readme import number, span, table, times
from benchmarks.records import Frames, write_csv, write_mixed
from benchmarks.venvs import OWN, SDK, python_of

_READERS = ROOT / "benchmarks" / "readers"
_ROWS, _CSV_BYTES = 300_000, 127_000_000
_PROTOBUF_GOAL, _SDK_GOAL, _MEMORY_GOAL = 8.0, 60.0, 3.0
OURS = "knn-container"


@dataclass(frozen=True)
class Reader:
    """A program of `readers`, with its environment."""

    title: str
    venv: str
    script: str


_RECORDIO = (
    Reader(OURS, OWN, "with_ours.py"),
    Reader("protobuf (upb) into numpy", "protobuf", "with_protobuf.py"),
    Reader("SageMaker's SDK", SDK, "with_sdk.py"),
)
_MIXED = _RECORDIO[:2]
_CSV = (
    Reader(OURS, OWN, "with_ours.py"),
    Reader("polars", "polars", "with_polars.py"),
    Reader("pandas", "pandas", "with_pandas.py"),
    Reader("pandas, in chunks", "pandas", "with_pandas_chunks.py"),
    Reader("numpy, loadtxt", "faiss", "with_numpy.py"),
)


def measure(bench: Bench) -> Found:
    """Reads the same file with each reader in turn."""
    recordio = bench.folder / "recordio" / "rows.pbr"
    recordio.parent.mkdir()
    count = bench.pick(_ROWS, 20_000)
    made = bench.source.table("covertype", count, 54, 1)
    Frames(54).write(recordio, made.rows, made.labels)
    mixed = bench.folder / "mixed" / "rows.pbr"
    mixed.parent.mkdir()
    write_mixed(mixed, made.rows, made.labels)
    csv = bench.folder / "csv" / "rows.csv"
    csv.parent.mkdir()
    _write_csv(bench, csv)
    cpus = sorted(os.sched_getaffinity(0))
    rounds = bench.pick(7, 2)
    try:
        os.sched_setaffinity(0, cpus[:1])
        dense = _race(_RECORDIO, recordio, rounds)
        mixture = _race(_MIXED, mixed, rounds)
    finally:
        os.sched_setaffinity(0, cpus)
    name = bench.source.name("covertype")
    found: Found = {"name": name, "rows": count, "columns": 54, "recordio": dense, "mixed": mixture}
    return found | {"csv": _race(_CSV, csv, rounds)}


def _write_csv(bench: Bench, path: Path) -> None:
    made = bench.source.table("covertype", 10_000, 54, 1)
    write_csv(path, made.rows, made.labels)
    count = round(bench.pick(_CSV_BYTES, 10_000_000) / path.stat().st_size * 10_000)
    made = bench.source.table("covertype", count, 54, 1)
    write_csv(path, made.rows, made.labels)


def _race(readers: tuple[Reader, ...], path: Path, rounds: int) -> Found:
    """What each took: seconds and memory at the median, and why some could not be measured."""
    peaks: dict[str, list[float]] = {it.title: [] for it in readers}
    totals: dict[str, tuple[int, float]] = {}
    lost: dict[str, str] = {}

    def read(it: Reader, _turn: int) -> float:
        try:
            found = json.loads(run(python_of(it.venv), _READERS / it.script, path).splitlines()[-1])
        except BenchmarkError as reason:
            raise NotMeasured(str(reason).splitlines()[-1]) from None
        peaks[it.title].append(found["peak"])
        totals[it.title] = found["rows"], found["sum"]
        seconds: float = found["seconds"]
        return seconds

    entrants: dict[str, Callable[[int], float]] = {it.title: partial(read, it) for it in readers}
    took, lost = interleave(entrants, 1e9, rounds, rounds)
    for title, reason in lost.items():
        say(f"{title}: {reason}")
    if len(set(totals.values())) > 1:
        raise BenchmarkError(f"The readers read different things: {totals}")
    figures = {
        title: {"seconds": median(values), "low": min(values), "high": max(values), "peak": median(peaks[title])}
        for title, values in took.items()
    }
    say(f"{path.name}: {figures}")
    return {"bytes": path.stat().st_size, "rows": totals[OURS][0], "readers": figures, "missing": lost}


def report(found: Found) -> str:
    """A table for each format."""
    parts = []
    kinds = {
        "recordio": f"Dense RecordIO, {found['columns']} float32, one core",
        "mixed": f"Dense RecordIO, {found['columns']} float32 and float64 by turns, one core",
        "csv": "CSV",
    }
    for kind, title in kinds.items():
        it = found[kind]
        rows = [
            (
                name,
                number(figures["seconds"]),
                number(it["rows"] / figures["seconds"] / 1e6),
                number(it["bytes"] / figures["seconds"] / 1e6),
                number(figures["peak"] / 1e6),
            )
            for name, figures in it["readers"].items()
        ]
        rows += [(name, f"not measured: {reason}", "", "", "") for name, reason in it["missing"].items()]
        heads = ("", "seconds", "million rows a second", "MB a second", "peak memory, MB")
        parts.append(f"**{title}**: {found['name']}, {it['bytes'] / 1e6:,.0f} MB\n\n{table(heads, rows)}")
    note = (
        "Memory is what reading adds to a process that has imported all it needs. Our reader hands mini-batches on and "
        "keeps none, as does pandas in chunks; the others make one table of all rows.\n"
    )
    return "\n".join([*parts, note])


def lines(found: Found) -> list[Line]:
    """Against protobuf's parser and the SDK's reader; against the faster of polars and pandas, and their memory."""
    made = []
    readers = found["recordio"]["readers"]
    for other, goal in (("protobuf (upb) into numpy", _PROTOBUF_GOAL), ("SageMaker's SDK", _SDK_GOAL)):
        work = f"dense RecordIO, one core, beside {other}"
        if other not in readers:
            made.append(missing(work, times(goal), found["recordio"]["missing"].get(other, "")))
            continue
        ours, theirs = readers[OURS]["seconds"], readers[other]["seconds"]
        made.append(Line(work, span(ours), span(theirs), theirs / ours, times(goal), theirs / ours >= goal))
    readers = found["csv"]["readers"]
    others = {name: readers[name] for name in ("polars", "pandas") if name in readers}
    work = f"CSV of {found['csv']['bytes'] / 1e6:,.0f} MB"
    if not others:
        return [*made, missing(work, times(1), "neither polars nor pandas can be had")]
    fastest = min(others, key=lambda name: others[name]["seconds"])
    slimmest = min(others, key=lambda name: others[name]["peak"])
    ours = readers[OURS]
    ratio, memory = others[fastest]["seconds"] / ours["seconds"], others[slimmest]["peak"] / max(1, ours["peak"])
    theirs = f"{span(others[fastest]['seconds'])} ({fastest})"
    made.append(Line(work, span(ours["seconds"]), theirs, ratio, times(1), ratio >= 1))
    theirs = f"{others[slimmest]['peak'] / 1e6:,.0f} MB ({slimmest})"
    mine = f"{ours['peak'] / 1e6:,.0f} MB"
    return [*made, Line(f"{work}: memory", mine, theirs, memory, times(_MEMORY_GOAL), memory >= _MEMORY_GOAL)]
