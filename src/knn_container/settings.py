"""Settings from the environment: one table, read once by `read`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knn_container.errors import UserError


@dataclass(frozen=True)
class Setting:
    """One environment variable.

    Attributes:
        variable: its name.
        field: the field of `Settings` that it fills.
        parse: turns the text into the value; raises ValueError.
        expected: what `parse` takes, for errors.
        default: the text used where the variable is not set.
        help: one sentence.
    """

    variable: str
    field: str
    parse: Callable[[str], Any]
    expected: str
    default: str
    help: str


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _port(text: str) -> int:
    if not 0 < (value := int(text)) < 1 << 16:
        raise ValueError(text)
    return value


TABLE: tuple[Setting, ...] = (
    Setting(
        "SAGEMAKER_BASE_DIR",
        "base",
        Path,
        "a folder",
        "/opt/ml",
        "The folder that holds `input`, `model` and `output`.",
    ),
    Setting(
        "TRAINING_JOB_NAME",
        "job_name",
        str,
        "text",
        "",
        "Set by SageMaker, which packs the model itself: no `output/model.tar.gz` is written then.",
    ),
    Setting("TRAINING_JOB_ARN", "job_arn", str, "text", "", "As `TRAINING_JOB_NAME`."),
    Setting("SAGEMAKER_BIND_TO_PORT", "port", _port, "a port", "8080", "The port that `serve` listens on."),
    Setting(
        "MAX_CONTENT_LENGTH",
        "max_content_length",
        _positive,
        "a number of bytes",
        str(100 << 20),
        "The largest request body in bytes; a larger one is answered with 413.",
    ),
    Setting(
        "SAGEMAKER_MODEL_SERVER_WORKERS",
        "workers",
        _positive,
        "a whole number from 1",
        "1",
        "Server processes; each has its own threads, all share the vectors of a flat index.",
    ),
)


@dataclass(frozen=True)
class Settings:
    """What the environment says; the table documents each field."""

    base: Path
    job_name: str
    job_arn: str
    port: int
    max_content_length: int
    workers: int

    @property
    def platform_packs_the_model(self) -> bool:
        """Whether SageMaker makes `model.tar.gz` of the model folder."""
        return bool(self.job_name or self.job_arn)


def read(environment: Mapping[str, str]) -> Settings:
    """Reads the settings from a mapping such as `os.environ`.

    Raises:
        UserError: names every variable whose value cannot be used.
    """
    values, mistakes = {}, []
    for row in TABLE:
        text = environment.get(row.variable) or row.default
        try:
            values[row.field] = row.parse(text)
        except ValueError:
            mistakes.append(f"{row.variable}: expected {row.expected}, {text!r} came.")
    if mistakes:
        raise UserError(" ".join(mistakes))
    return Settings(**values)
