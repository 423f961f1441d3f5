"""Requests as values: planned first, then printed or sent."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Response = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """One call of an AWS API.

    Attributes:
        service: by boto3's name, such as `sagemaker-runtime`.
        operation: such as `CreateTrainingJob`.
        parameters: as the operation takes them.
        note: when it is sent, where that is not simply next.
        then: looks at the answer; raises Failure where it is not what the next request needs.
    """

    service: str
    operation: str
    parameters: Mapping[str, Any]
    note: str = ""
    then: Callable[[Response], None] | None = field(default=None, compare=False)

    @property
    def call(self) -> str:
        """Its name among all services' operations."""
        return f"{self.service}.{self.operation}"

    def document(self) -> dict[str, Any]:
        """What a dry run prints."""
        note = {"note": self.note} if self.note else {}
        return {"service": self.service, "operation": self.operation, **note, "parameters": dict(self.parameters)}


@dataclass(frozen=True)
class Command:
    """A program of this machine.

    Attributes:
        arguments: its name first.
        note: what is not on the command line.
    """

    arguments: Sequence[str]
    note: str = ""

    def document(self) -> dict[str, Any]:
        """What a dry run prints."""
        note = {"note": self.note} if self.note else {}
        return {"command": shlex.join(self.arguments), **note}


Step = Request | Command


def without_none(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out what is not set: the APIs have no null."""
    return {name: value for name, value in parameters.items() if value is not None}


def to_json(value: Any, indent: int = 0, before: int = 0, width: int = 110) -> str:
    """Writes JSON with what fits a line on one.

    Args:
        value: dicts, lists, text, numbers.
        indent: columns in front of its lines.
        before: characters that stand in front of it on its first line, beside these.
        width: of a line.
    """
    flat = json.dumps(value, ensure_ascii=False)
    if indent + before + len(flat) <= width or not isinstance(value, dict | list) or not value:
        return flat
    margin, inner = " " * (indent + 2), indent + 2
    if isinstance(value, list):
        lines = [margin + to_json(each, inner, 0, width) for each in value]
        return "[\n" + ",\n".join(lines) + "\n" + " " * indent + "]"
    names = {name: f"{json.dumps(name)}: " for name in value}
    lines = [margin + names[name] + to_json(each, inner, len(names[name]), width) for name, each in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
