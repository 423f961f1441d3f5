import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from knn_container.artifact import Manifest
from knn_container.model import ModelOptions

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def section(title):
    body = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", README, re.MULTILINE | re.DOTALL)
    assert body, f"README.md has no section {title!r}"
    return body[1]


def sentences_of_the_source():
    """Every text in src, with the pieces between the braces of an f-string apart."""
    return [
        node.value
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_tables_are_the_programs():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/generate_readme.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_scripts_exist_and_run(document):
    named = set(re.findall(r"(?<![\w/])(?:scripts|\.ci)/[\w.-]*\w", (ROOT / document).read_text()))
    for path in sorted(named):
        assert (ROOT / path).is_file(), path
        assert path.endswith(".py") or os.access(ROOT / path, os.X_OK), path


def test_tests_that_are_named_exist():
    named = set(re.findall(r"tests/[\w/]+\.py", README))
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (ROOT / link.partition("#")[0]).exists(), link


def test_names_every_dependency():
    project = PROJECT["project"]
    groups = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
        PROJECT["build-system"]["requires"],
    ]
    wanted = {re.match(r"[\w.-]+", line)[0].lower() for group in groups for line in group if isinstance(line, str)}
    named = {name.lower() for name in re.findall(r"`([\w.-]+)`", section("Dependencies"))}
    assert wanted - named == set()


def test_messages_are_the_programs():
    known = sentences_of_the_source()
    messages = re.findall(r"^\| `([^`]+)` \|", section("Troubleshooting"), re.MULTILINE)
    assert len(messages) > 10
    for message in messages:
        for piece in filter(None, (piece.strip() for piece in message.split("…"))):
            assert any(piece in sentence for sentence in known), (message, piece)


def test_names_every_field_of_the_manifest():
    fields = {"format", "format_version", "faiss_version", "files"}
    fields |= {*Manifest.__dataclass_fields__, *ModelOptions.__dataclass_fields__} - {"options"}
    table = section("The model").partition("| field of")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == fields
