import pytest

from knn_container.errors import (
    AlgorithmError,
    ArtifactError,
    FormatError,
    PlatformError,
    RequestError,
    TrainingError,
    UserError,
)


@pytest.mark.parametrize(
    ("kind", "label"),
    [(UserError, "ClientError"), (AlgorithmError, "AlgorithmError"), (PlatformError, "InternalServerError")],
)
def test_training_errors_have_the_classes_that_sagemaker_shows(kind, label):
    error = kind("why")
    assert isinstance(error, TrainingError)
    assert (error.label, str(error)) == (label, "why")


@pytest.mark.parametrize(("row", "text"), [(None, "why"), (1, "row 1: why"), (0, "row 0: why")])
def test_a_format_error_names_its_row(row, text):
    error = FormatError("why", row)
    assert (error.row, error.reason, str(error)) == (row, "why", text)
    assert isinstance(error, ValueError)


def test_a_request_error_carries_its_status():
    error = RequestError(415, "why")
    assert (error.status, str(error)) == (415, "why")


def test_errors_of_a_model_and_of_a_format_are_told_apart():
    assert not issubclass(ArtifactError, FormatError)
    assert not issubclass(FormatError, ArtifactError)
