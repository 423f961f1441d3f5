from pathlib import Path

import pytest

from knn_container import settings
from knn_container.errors import UserError


def test_defaults_are_those_of_sagemakers_contract():
    read = settings.read({})
    assert (read.base, read.port, read.workers) == (Path("/opt/ml"), 8080, None)
    assert read.max_content_length == 100 * 1024 * 1024
    assert not read.platform_packs_the_model


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("SAGEMAKER_BASE_DIR", "/some/folder", "base", Path("/some/folder")),
        ("SAGEMAKER_BIND_TO_PORT", "1", "port", 1),
        ("SAGEMAKER_BIND_TO_PORT", "65535", "port", 65535),
        ("MAX_CONTENT_LENGTH", "1", "max_content_length", 1),
        ("MAX_CONTENT_LENGTH", str(2**40), "max_content_length", 2**40),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "4", "workers", 4),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "auto", "workers", None),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "AUTO", "workers", None),
        ("TRAINING_JOB_NAME", "job", "job_name", "job"),
        ("TRAINING_JOB_ARN", "arn:x", "job_arn", "arn:x"),
    ],
)
def test_a_variable_fills_its_field(variable, text, field, value):
    assert getattr(settings.read({variable: text, "PATH": "/bin"}), field) == value


@pytest.mark.parametrize("variable", [row.variable for row in settings.TABLE])
def test_an_empty_variable_is_one_that_is_not_set(variable):
    assert settings.read({variable: ""}) == settings.read({})


@pytest.mark.parametrize(
    ("variable", "texts"),
    [
        ("SAGEMAKER_BIND_TO_PORT", ["0", "-1", "65536", "http", "80.0"]),
        ("MAX_CONTENT_LENGTH", ["0", "-1", "100MB", "1e6"]),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", ["0", "-2", "many", "1.5"]),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_variable(variable, texts):
    for text in texts:
        with pytest.raises(UserError) as caught:
            settings.read({variable: text})
        assert variable in str(caught.value)
        assert repr(text) in str(caught.value)


def test_every_mistake_is_reported_at_once():
    with pytest.raises(UserError, match=r"SAGEMAKER_BIND_TO_PORT.*MAX_CONTENT_LENGTH"):
        settings.read({"MAX_CONTENT_LENGTH": "x", "SAGEMAKER_BIND_TO_PORT": "y"})


@pytest.mark.parametrize("variable", ["TRAINING_JOB_NAME", "TRAINING_JOB_ARN"])
def test_the_platform_packs_the_model_where_it_names_the_job(variable):
    assert settings.read({variable: "x"}).platform_packs_the_model


def test_the_table_fills_every_field_once_and_explains_each():
    assert sorted(row.field for row in settings.TABLE) == sorted(settings.Settings.__dataclass_fields__)
    assert all(row.help.endswith(".") for row in settings.TABLE)
