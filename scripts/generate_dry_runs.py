"""Fills docs/sagemaker.md with what the commands in it print; used by scripts/generate-readme.

Between `<!-- begin ... -->` and `<!-- end ... -->` stands a command, and behind it what this writes: the steps of a dry
run, all or a part of one request, or a document, whole or in parts.
"""

import contextlib
import io
import json
import os
import re
import shlex
import tempfile
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from sklearn.datasets import load_digits

from knn_sagemaker import cli
from knn_sagemaker.requests import to_json

DOCUMENT = Path(__file__).resolve().parents[1] / "docs/sagemaker.md"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# What the document says must be known once.
ENVIRONMENT = {
    "KNN_SAGEMAKER_ROLE": "arn:aws:iam::111122223333:role/knn",
    "KNN_SAGEMAKER_BUCKET": "my-bucket",
    "AWS_DEFAULT_REGION": "us-west-2",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_BLOCK = re.compile(
    r"(<!-- begin (dry run|document|actions)(?:: ([^\n]*))? -->\n)(```sh\n(.*?)\n```\n)?.*?(<!-- end \2 -->)", re.DOTALL
)


def generate(text: str) -> str:
    """Returns the document with what its commands print."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, _environment(), clear=True):
        _write_digits(Path(folder))
        with contextlib.chdir(folder):
            return _BLOCK.sub(_filled, text)


def _environment() -> dict[str, str]:
    foreign = ("AWS_", "KNN_SAGEMAKER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | ENVIRONMENT


def _write_digits(folder: Path) -> None:
    """The arrays that the document's first example writes."""
    rows, labels = load_digits(return_X_y=True)
    (folder / "digits").mkdir()
    np.save(folder / "digits/train.npy", np.column_stack([labels, rows])[:1437])


def _filled(found: re.Match[str]) -> str:
    begin, kind, chosen, block, command, end = found.groups()
    if kind == "actions":
        return begin + _actions(printed("scripts/sagemaker policy caller --account 111122223333")) + end
    result = printed(command)
    shown = _steps(result, chosen) if kind == "dry run" else _parts(result, chosen)
    return begin + block + shown + end


def printed(command: str) -> Any:
    """Runs a command of the document in this process, and gives the JSON that it prints."""
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    if program != "scripts/sagemaker":
        raise SystemExit(f"{DOCUMENT.name}: expected a command of scripts/sagemaker, {command!r} came.")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(arguments, NOW)
    if status:
        raise SystemExit(f"{DOCUMENT.name}: {command}\nended with {status}: {err.getvalue()}")
    return json.loads(out.getvalue())


def _steps(steps: list[dict[str, Any]], chosen: str) -> str:
    if chosen == "all":
        return _json(steps)
    operation, _, field = chosen.partition(".")
    (step,) = (step for step in steps if step.get("operation") == operation)
    names = list(dict.fromkeys(f"`{step['operation']}`" for step in steps))
    sent = f"It sends {', '.join(names[:-1])} and {names[-1]}. " if len(names) > 1 else ""
    what = f"`{field}` of `{operation}`" if field else f"`{operation}`"
    sentence = textwrap.fill(f"{sent}{what}:", 120, break_long_words=False, break_on_hyphens=False)
    return f"\n{sentence}\n{_json(step['parameters'][field] if field else step)}"


def _parts(document: dict[str, Any], chosen: str | None) -> str:
    if not chosen:
        return _json(document)
    parts = {}
    for path in chosen.split():
        value: Any = document
        for name in path.split("."):
            value = value[name]
        parts[name] = value
    return _json(parts)


def _actions(policy: dict[str, Any]) -> str:
    lines = ["\n| on | actions |", "|---|---|"]
    for statement in policy["Statement"]:
        condition = "".join(
            f", where `{name}` is `{value}`"
            for test in statement.get("Condition", {}).values()
            for name, value in test.items()
        )
        actions = ", ".join(f"`{action}`" for action in statement["Action"])
        lines.append(f"| `{statement['Resource']}`{condition} | {actions} |")
    return "\n".join(lines) + "\n\n"


def _json(value: Any) -> str:
    return f"\n```json\n{to_json(value)}\n```\n"
