"""Settings from the environment: one table, read once by `read`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knn_container.errors import UserError
from knn_container.s3.location import Location, parse_object


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


def _workers(text: str) -> int | None:
    return None if text.lower() == "auto" else _positive(text)


def _bytes(text: str) -> int | None:
    return _positive(text) if text else None


def _port(text: str) -> int:
    if not 0 < (value := int(text)) < 1 << 16:
        raise ValueError(text)
    return value


def _flag(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False, "": False}
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]


def _level(text: str) -> int | str:
    if text.isdecimal():
        return int(text)
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ValueError(text)
    return text.upper()


def _object(text: str) -> Location | None:
    return parse_object(text) if text else None


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
        "SAGEMAKER_CONTAINER_LOG_LEVEL",
        "log_level",
        _level,
        "a level such as 20 or INFO",
        "INFO",
        "The least level that is logged.",
    ),
    Setting(
        "TRAINING_JOB_NAME",
        "job_name",
        str,
        "text",
        "",
        "Set by SageMaker, which packs and uploads the results itself: no `output/model.tar.gz` is written then, and "
        "`S3OutputPath` is not looked at.",
    ),
    Setting("TRAINING_JOB_ARN", "job_arn", str, "text", "", "As `TRAINING_JOB_NAME`."),
    Setting(
        "SAGEMAKER_STARTUP_TIMEOUT",
        "startup_seconds",
        _positive,
        "a whole number from 1",
        "600",
        "Seconds that the hosts of a training job wait for each other. `serve` has no such limit: `/ping` answers 503 "
        "for as long as the model takes to load.",
    ),
    Setting("SAGEMAKER_BIND_TO_PORT", "port", _port, "a port", "8080", "The port that `serve` listens on."),
    Setting(
        "MODEL_DATA_URL",
        "model_data",
        _object,
        "s3://BUCKET/KEY of a model.tar.gz",
        "",
        "The `model.tar.gz` in S3 that `serve` fetches, such as `s3://bucket/job/output/model.tar.gz`; it is served in "
        "place of what is in the folder `model`.",
    ),
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
        _workers,
        "auto or a whole number from 1",
        "auto",
        "Server processes, which share one copy of the model. `auto` is as many as there are CPUs, at most 16, and "
        "fewer where memory is short; one, where the model comes from `MODEL_DATA_URL`. A multi-model endpoint has "
        "one.",
    ),
    Setting(
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
        "default_accept",
        str,
        "an Accept header",
        "application/json",
        "The Accept header of requests without one; it may carry options, such as `verbose=true`.",
    ),
    Setting(
        "SAGEMAKER_INFERENCE_OUTPUT",
        "output",
        str,
        "names of columns",
        "predicted_label",
        "The columns of an answer, separated by commas: some of `predicted_label`, `distances`, `labels`, `ids`, "
        "`probability`, `probabilities`, `classes`.",
    ),
    Setting(
        "KNN_EUCLIDEAN_DISTANCES",
        "euclidean",
        _flag,
        "true or false",
        "false",
        "Answers L2 distances as they are; false answers their squares, as FAISS does.",
    ),
    Setting(
        "SAGEMAKER_BATCH",
        "batch",
        str,
        "text",
        "",
        "Set by a batch transform: `True` in the SDK's local mode, `true` on SageMaker; each gets its own spelling "
        "in `/execution-parameters`.",
    ),
    Setting(
        "SAGEMAKER_MULTI_MODEL",
        "multi_model",
        _flag,
        "true or false",
        "false",
        "Set by a multi-model endpoint: models come and go through `/models`.",
    ),
    Setting(
        "KNN_MODEL_MEMORY",
        "model_memory",
        _bytes,
        "a number of bytes",
        "",
        "What the models of a multi-model endpoint may take together; without it, three quarters of the container's "
        "memory.",
    ),
)

# Variables that SageMaker's containers know and that have nothing to do here, with the reason.
IGNORED: dict[str, str] = {
    "SAGEMAKER_SAFE_PORT_RANGE": "The server needs no port beside its own.",
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": "The platform cuts payloads itself; `MAX_CONTENT_LENGTH` is the limit here.",
    "SAGEMAKER_BATCH_STRATEGY": "A request may hold one record or many.",
    "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "Requests may come side by side.",
    "SAGEMAKER_MODEL_SERVER_TIMEOUT": "A request is not cut off; the platform has its own limit.",
    "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "As `SAGEMAKER_MODEL_SERVER_TIMEOUT`.",
    "SAGEMAKER_MODEL_SERVER_VMARGS": "There is no Java here.",
    "SAGEMAKER_PROGRAM": "There is no user script.",
    "SAGEMAKER_NUM_MODEL_WORKERS": "A model is held once, whatever the number of requests.",
    "SAGEMAKER_MODEL_JOB_QUEUE_SIZE": "As `SAGEMAKER_NUM_MODEL_WORKERS`.",
    "SAGEMAKER_MAX_REQUEST_SIZE": "`MAX_CONTENT_LENGTH` is the limit.",
    "SAGEMAKER_MAX_HEAP_SIZE": "There is no Java here.",
    "SAGEMAKER_MAX_DIRECT_MEMORY_SIZE": "There is no Java here.",
    "SAGEMAKER_HTTP_PORT": "`SAGEMAKER_BIND_TO_PORT` sets the port.",
    "SAGEMAKER_DATA_PATH": "`SAGEMAKER_BASE_DIR` sets the folder.",
}


@dataclass(frozen=True)
class Settings:
    """What the environment says; the table documents each field."""

    base: Path
    log_level: int | str
    job_name: str
    job_arn: str
    startup_seconds: int
    port: int
    model_data: Location | None
    max_content_length: int
    workers: int | None
    default_accept: str
    output: str
    euclidean: bool
    batch: str
    multi_model: bool
    model_memory: int | None

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
