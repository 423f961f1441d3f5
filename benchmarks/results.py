"""The file that keeps what was found, a section at a time, so that each can be measured again alone."""

import json
from pathlib import Path
from typing import Any

from benchmarks.programs import ROOT

FOLDER = ROOT / "docs" / "benchmarks"
PATH = FOLDER / "results.json"


def load(path: Path = PATH) -> dict[str, Any]:
    """What was found last, by section."""
    return json.loads(path.read_text()) if path.exists() else {}


def save(name: str, found: dict[str, Any], path: Path = PATH) -> dict[str, Any]:
    """Keeps what was found for a section beside what is there for the others; returns all."""
    kept = load(path) | {name: found}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(kept), indent=1) + "\n")
    return kept


def _rounded(value: Any) -> Any:
    """Four significant digits say all that a measurement can."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(it) for key, it in value.items()}
    return [_rounded(it) for it in value] if isinstance(value, list) else value
