"""What CreateAlgorithm is told of this algorithm, made of the table of hyperparameters."""

import re
from typing import Any

from knn_container.formats import mediatype
from knn_container.hyperparameter_table import AUTO, TABLE, Hyperparameter
from knn_sagemaker import metrics
from knn_sagemaker.requests import without_none
from knn_sagemaker.training import TUNABLE

LARGEST = 2**31 - 1  # where the table has no upper end, and CreateAlgorithm wants one
SMALLEST = 0.001  # where 0 is outside the range, and CreateAlgorithm knows ranges with their ends alone
_INTERVAL = re.compile(r"\[(\d+), (?:(\d+)\]|\+inf\))")
_ABOVE_ZERO = re.compile(r"\(0, (\d+)\]")
_SIZES = {
    "m5": "large xlarge 2xlarge 4xlarge 12xlarge 24xlarge",
    "m6i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge",
    "m7i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "c5": "xlarge 2xlarge 4xlarge 9xlarge 18xlarge",
    "c6i": "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge",
    "c7i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "r6i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge",
    "r7i": "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
    "g4dn": "xlarge 2xlarge 4xlarge 8xlarge 16xlarge",  # those with one GPU
    "g5": "xlarge 2xlarge 4xlarge 8xlarge 16xlarge",
}
INSTANCE_TYPES = [f"ml.{family}.{size}" for family, sizes in _SIZES.items() for size in sizes.split()]


def specification(name: str, image: str) -> dict[str, Any]:
    """The request of CreateAlgorithm.

    Args:
        name: the algorithm's.
        image: as SageMaker is told it.
    """
    return {
        "AlgorithmName": name,
        "AlgorithmDescription": "k-nearest neighbours, in place of SageMaker's built-in k-NN.",
        "TrainingSpecification": {
            "TrainingImage": image,
            "SupportedHyperParameters": [_hyperparameter(row) for row in TABLE],
            "SupportedTrainingInstanceTypes": INSTANCE_TYPES,
            "SupportsDistributedTraining": True,
            "MetricDefinitions": metrics.definitions(),
            "TrainingChannels": [
                _channel("train", "The rows that become the model, or of which a sample does.", required=True),
                _channel("test", "Rows that are scored after training.", required=False),
            ],
            "SupportedTuningJobObjectiveMetrics": [
                {"Type": metric.goal, "MetricName": metric.name} for metric in metrics.OBJECTIVES.values()
            ],
        },
        "InferenceSpecification": {
            "Containers": [{"Image": image}],
            "SupportedTransformInstanceTypes": INSTANCE_TYPES,
            "SupportedRealtimeInferenceInstanceTypes": INSTANCE_TYPES,
            "SupportedContentTypes": [mediatype.CSV, mediatype.JSON, mediatype.JSONLINES, mediatype.RECORDIO],
            "SupportedResponseMIMETypes": [mediatype.JSON, mediatype.JSONLINES, mediatype.RECORDIO, mediatype.CSV],
        },
    }


def _channel(name: str, description: str, *, required: bool) -> dict[str, Any]:
    return {
        "Name": name,
        "Description": description,
        "IsRequired": required,
        "SupportedContentTypes": [mediatype.RECORDIO, mediatype.CSV],
        "SupportedCompressionTypes": ["None", "Gzip"],
        "SupportedInputModes": ["File", "FastFile", "Pipe"],
    }


def _hyperparameter(row: Hyperparameter) -> dict[str, Any]:
    kind, ranges = _range(row)
    return without_none(
        {
            "Name": row.name,
            "Description": row.help.replace("`", ""),
            "Type": kind,
            "Range": ranges,
            "IsTunable": row.name in TUNABLE,
            "IsRequired": row.required,
            "DefaultValue": None if row.default in (None, "") else str(row.default),
        }
    )


def _range(row: Hyperparameter) -> tuple[str, dict[str, Any] | None]:
    """Reads the table's own words for what is allowed."""
    if row.allowed.startswith(AUTO):  # a number or a word: SageMaker has no type for both
        return "FreeText", None
    if interval := _INTERVAL.fullmatch(row.allowed):
        ends = {"MinValue": interval[1], "MaxValue": interval[2] or str(LARGEST)}
        return "Integer", {"IntegerParameterRangeSpecification": ends}
    if interval := _ABOVE_ZERO.fullmatch(row.allowed):
        ends = {"MinValue": str(SMALLEST), "MaxValue": interval[1]}
        return "Continuous", {"ContinuousParameterRangeSpecification": ends}
    values = row.allowed.strip("[]").split(", ")
    return "Categorical", {"CategoricalParameterRangeSpecification": {"Values": values}}
