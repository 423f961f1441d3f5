"""Measures this program beside its alternatives and writes the README's figures.

    .venv/bin/python -m benchmarks                        all of it, half an hour or more
    .venv/bin/python -m benchmarks --only exact serving   some of it; the rest stays as it was measured last
    .venv/bin/python -m benchmarks --render               nothing; writes README.md again from docs/benchmarks

What was found is kept in docs/benchmarks, a section at a time, unless it was measured with --quick.
"""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from benchmarks import approximate, exact, grid, growth, ingest, job, readme, results, server, serving
from benchmarks.bench import Bench, Line
from benchmarks.data import Source
from benchmarks.programs import keep_to, machine, say
from benchmarks.readme import times
from benchmarks.venvs import versions

SECTIONS: dict[str, ModuleType] = {
    "exact": exact,
    "grid": grid,
    "growth": growth,
    "approximate": approximate,
    "serving": serving,
    "job": job,
    "ingest": ingest,
    "server": server,
}
GOALS = "goals"
CPUS = 2
_MET = {True: "met", False: "**not met**", None: ""}


def render(kept: dict[str, Any]) -> dict[str, str]:
    """Writes Markdown: for each section what was found, and all goals in one table."""
    parts, lines = {}, []
    for name, section in SECTIONS.items():
        if name in kept:
            parts[name] = f"{section.report(kept[name])}\nMeasured {kept[name]['where']}.\n"
            lines += section.lines(kept[name])
    others = next((kept[name]["versions"] for name in reversed(SECTIONS) if name in kept), [])
    parts[GOALS] = f"{goals(lines)}\nThe alternatives: {', '.join(others)}.\n"
    return {name: parts[name] for name in (GOALS, *SECTIONS) if name in parts}


def goals(lines: list[Line]) -> str:
    """The table of goals."""
    rows = (
        (it.work, it.ours, it.alternative, times(it.ratio) if it.ratio else "", it.target, _MET[it.met]) for it in lines
    )
    return readme.table(("what", "ours", "the alternative", "ratio", "target", ""), rows)


def plot(kept: dict[str, Any], folder: Path) -> None:
    """Draws what is to be seen of each section."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, section in SECTIONS.items():
        if name in kept and hasattr(section, "plot"):
            section.plot(kept[name], folder)


def options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        "benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="measures little and keeps nothing, to see that it works")
    parser.add_argument("--data", type=Path, help="a folder with covertype-small.npz and fashion-mnist.npz")
    parser.add_argument("--folder", type=Path, help="where temporary files are to be; they take up to 2 GB")
    parser.add_argument("--results", type=Path, default=results.FOLDER, help="where results.json and the plots are")
    parser.add_argument("--readme", type=Path, default=readme.README, help="the file that gets the figures")
    parser.add_argument("--render", action="store_true", help="only writes the file again from results.json")
    given = parser.parse_args()
    if given.quick and given.results == results.FOLDER and not given.render:
        given.results = given.readme = None
    return given


def main() -> int:
    """Measures, prints and writes; returns the exit status."""
    given = options()
    path = given.results / results.PATH.name if given.results else None
    kept: dict[str, Any] = results.load(path) if path else {}
    failed = []
    if given.readme:  # fails before it measures
        readme.check([GOALS, *(given.only or SECTIONS)], given.readme)
    if not given.render:
        keep_to(CPUS)
        for name in given.only or SECTIONS:
            say(f"--- {name}")
            started = time.monotonic()
            try:
                with TemporaryDirectory(dir=given.folder) as folder:
                    found = SECTIONS[name].measure(Bench(Source(given.data), Path(folder), given.quick))
            except Exception as error:  # the other sections shall have their turn
                say(f"{name} failed: {type(error).__name__}: {error}")
                failed.append(name)
                continue
            found |= {"where": machine(), "versions": versions(), "quick": given.quick}
            found["took"] = time.monotonic() - started
            kept = results.save(name, found, path) if path else kept | {name: found}
            say(f"--- {name} took {found['took']:.0f} s")
    parts = render(kept)
    print("\n".join(f"## {name}\n\n{part}" for name, part in parts.items()))
    if given.results:
        plot(kept, given.results)
        readme.write(parts, given.readme)
    if failed:
        say(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
