"""Markdown: tables, figures, and the parts of the README between markers."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.programs import ROOT, BenchmarkError

README = ROOT / "README.md"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a Markdown table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [heads, ["---"] * len(heads), *rows])


def replaced(text: str, name: str, part: str) -> str:
    """Puts a part between its markers in the README's text."""
    begin, end = f"<!-- begin benchmark: {name} -->\n", f"<!-- end benchmark: {name} -->"
    parts = re.split(re.escape(begin) + ".*?" + re.escape(end), text, flags=re.DOTALL)
    if len(parts) != 2:
        raise BenchmarkError(f"README.md has {len(parts) - 1} places for the benchmark {name!r}, expected 1.")
    return (begin + part + end).join(parts)


def check(names: Iterable[str], readme: Path = README) -> None:
    """Looks whether parts have their places."""
    for name in names:
        replaced(readme.read_text(), name, "")


def write(parts: dict[str, str], readme: Path = README) -> None:
    """Puts parts between their markers; writes nothing if one has no place."""
    text = readme.read_text()
    for name, part in parts.items():
        text = replaced(text, name, part)
    readme.write_text(text)


def number(value: float) -> str:
    """Writes a number with three significant digits, or all of its whole ones."""
    if value == 0:
        return "0"
    size = abs(value)
    digits = next((digits for limit, digits in ((99.95, 0), (9.995, 1), (0.9995, 2)) if size >= limit), 3)
    return f"{value:,.{digits}f}"


def times(ratio: float) -> str:
    """Writes a ratio: `12.3x`."""
    return f"{number(ratio)}x"


def span(seconds: float) -> str:
    """Writes a time in the unit that suits it."""
    return f"{number(1000 * seconds)} ms" if seconds < 1 else f"{number(seconds)} s"
