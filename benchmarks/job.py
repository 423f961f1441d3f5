"""A whole training job of the size of AWS's announcement, from the start of its process to its exit."""

from dataclasses import asdict
from statistics import median

from benchmarks import program
from benchmarks.bench import Bench, Found, Line
from benchmarks.programs import say
from benchmarks.readme import number, span, table
from benchmarks.records import Frames

_ROWS, _TEST_ROWS, _SAMPLE = 522_910, 58_102, 200_000
_HYPERPARAMETERS = {"k": 10, "predictor_type": "classifier", "feature_dim": 54}
_GOAL = 4.0


def measure(bench: Bench) -> Found:
    """Trains on float64 records and scores the test rows, several times."""
    rows, test_rows, sample = (it if not bench.quick else it // 20 for it in (_ROWS, _TEST_ROWS, _SAMPLE))
    made = bench.source.table("covertype", rows, 54, test_rows)
    channels = program.lay_out(bench.folder / "job", {**_HYPERPARAMETERS, "sample_size": sample})
    frames = Frames(54, "<f8")
    frames.write(channels["train"] / "rows.pbr", made.rows, made.labels)
    frames.write(channels["test"] / "rows.pbr", made.queries, made.truth)
    runs = []
    for _ in range(bench.pick(5, 1)):
        runs.append(asdict(program.train(bench.folder / "job")))
        say(f"{runs[-1]}")
    size = sum(path.stat().st_size for channel in channels.values() for path in channel.iterdir())
    name = bench.source.name("covertype")
    return {"name": name, "rows": rows, "test_rows": test_rows, "sample": sample, "bytes": size, "runs": runs}


def report(found: Found) -> str:
    """One line."""
    runs = found["runs"]
    seconds = [it["seconds"] for it in runs]
    heads = ("seconds, median", "fastest", "slowest", "CPU seconds", "peak memory, MB")
    figures = (
        number(median(seconds)),
        number(min(seconds)),
        number(max(seconds)),
        number(median(it["cpu"] for it in runs)),
        number(median(it["peak"] for it in runs) / 1e6),
    )
    return (
        f"**A whole training job**: {found['rows']:,} float64 records of 54 columns ({found['name']}, "
        f"{found['bytes'] / 1e6:,.0f} MB with the test rows), a sample of {found['sample']:,}, "
        f"{found['test_rows']:,} test rows scored, `faiss.Flat`, k = 10; {len(runs)} times. AWS's announcement logged "
        "12 s on 8 cores.\n\n" + table(heads, [figures])
    )


def lines(found: Found) -> list[Line]:
    """The median."""
    took = median(it["seconds"] for it in found["runs"])
    work = (
        f"training job: {found['rows']:,} float64 records, sample {found['sample']:,}, {found['test_rows']:,} test rows"
    )
    return [Line(work, span(took), "12 s (AWS's log, 8 cores)", 12 / took, f"under {span(_GOAL)}", took < _GOAL)]
