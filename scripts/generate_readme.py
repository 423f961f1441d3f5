"""Fills the README between `<!-- begin NAME -->` and `<!-- end NAME -->`, and docs/sagemaker.md with dry runs.

Run by scripts/generate-readme.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import generate_dry_runs

from knn_container import settings
from knn_container.hyperparameter_table import TABLE

README = Path(__file__).resolve().parents[1] / "README.md"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def hyperparameter_table() -> str:
    """The hyperparameters, in the order in which they are declared."""
    rows = (
        (f"`{row.name}`", row.allowed, "required" if row.required else code(row.default), row.help) for row in TABLE
    )
    return table(("name", "allowed", "default", "meaning"), rows)


def setting_table() -> str:
    """The environment variables, in the order in which they are declared."""
    rows = ((f"`{row.variable}`", code(row.default), row.help) for row in settings.TABLE)
    return table(("variable", "default", "meaning"), rows)


def ignored_table() -> str:
    """The environment variables that other containers know."""
    rows = ((f"`{name}`", reason) for name, reason in settings.IGNORED.items())
    return table(("variable", "why it changes nothing here"), rows)


def code(value: object) -> str:
    """Writes a default; nothing where there is none."""
    return "" if value in (None, "") else f"`{value}`"


PARTS = {"hyperparameters": hyperparameter_table, "settings": setting_table, "ignored settings": ignored_table}


def generate(text: str) -> str:
    """Returns the README with its tables as they should be."""
    for name, make in PARTS.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        parts = pattern.split(text)
        if len(parts) != 2:
            raise SystemExit(f"README.md has {len(parts) - 1} tables of {name}, expected 1.")
        text = (begin + make() + end).join(parts)
    return text


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser("scripts/generate-readme")
    parser.add_argument("--check", action="store_true", help="writes nothing; fails where the tables differ")
    check = parser.parse_args().check
    status = 0
    for document, wanted in {README: generate, generate_dry_runs.DOCUMENT: generate_dry_runs.generate}.items():
        text = document.read_text()
        if (right := wanted(text)) == text:
            continue
        if check:
            print(f"{document.name} differs from the program: run scripts/generate-readme.", file=sys.stderr)
            status = 1
        else:
            document.write_text(right)
    return status


if __name__ == "__main__":
    sys.exit(main())
