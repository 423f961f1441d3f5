"""The algorithm specification, and the metrics."""

import re
from pathlib import Path

import pytest

from knn_container.hyperparameter_table import TABLE
from knn_sagemaker.metrics import METRICS

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture
def specification(run):
    done = run("algorithm-specification", "--account", "123456789012", "--region", "us-west-2")
    assert done.status == 0, done.err
    return done.json


def test_fits_create_algorithm(specification, assert_fits):
    assert_fits("sagemaker", "CreateAlgorithm", specification)


@pytest.fixture
def hyperparameters(specification):
    return {it["Name"]: it for it in specification["TrainingSpecification"]["SupportedHyperParameters"]}


def test_has_every_hyperparameter(hyperparameters):
    assert list(hyperparameters) == [row.name for row in TABLE]
    assert {name for name, it in hyperparameters.items() if it["IsRequired"]} == {"k", "predictor_type", "sample_size"}
    assert {name for name, it in hyperparameters.items() if it["IsTunable"]} == {"k", "sample_size"}


def test_has_types_and_ranges(hyperparameters):
    assert hyperparameters["k"] == {
        "Name": "k",
        "Description": "The number of neighbours.",
        "Type": "Integer",
        "Range": {"IntegerParameterRangeSpecification": {"MinValue": "1", "MaxValue": "1024"}},
        "IsTunable": True,
        "IsRequired": True,
    }
    assert hyperparameters["index_metric"]["Range"] == {
        "CategoricalParameterRangeSpecification": {"Values": ["L2", "INNER_PRODUCT", "COSINE"]}
    }
    assert hyperparameters["index_metric"]["DefaultValue"] == "L2"
    assert hyperparameters["feature_dim"]["Type"] == "FreeText"
    assert "Range" not in hyperparameters["feature_dim"]
    assert hyperparameters["sample_size"]["Range"]["IntegerParameterRangeSpecification"]["MaxValue"] == "2147483647"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_the_table_accepts_what_the_range_allows(hyperparameters, row):
    """The range is read off the table's words; this compares it with what the table does."""
    found = hyperparameters[row.name]
    match found["Type"]:
        case "Integer":
            low, high = map(int, found["Range"]["IntegerParameterRangeSpecification"].values())
            assert row.accepts(row.parse(str(low)))
            assert row.accepts(row.parse(str(high)))
            assert not row.accepts(low - 1)
            assert high == 2**31 - 1 or not row.accepts(high + 1)
        case "Continuous":
            low, high = map(float, found["Range"]["ContinuousParameterRangeSpecification"].values())
            assert row.accepts(low)
            assert row.accepts(high)
            assert not row.accepts(0.0)
            assert not row.accepts(high + 0.001)
        case "Categorical":
            values = found["Range"]["CategoricalParameterRangeSpecification"]["Values"]
            assert len(values) > 1
            assert all(row.accepts(row.parse(value)) for value in values)
        case "FreeText":
            assert row.accepts(row.parse("auto"))
    if "DefaultValue" in found:
        assert row.accepts(row.parse(found["DefaultValue"]))


def test_names_channels_and_objectives(specification):
    training = specification["TrainingSpecification"]
    assert [(it["Name"], it["IsRequired"]) for it in training["TrainingChannels"]] == [("train", True), ("test", False)]
    assert training["SupportedTuningJobObjectiveMetrics"] == [
        {"Type": "Maximize", "MetricName": "test:accuracy"},
        {"Type": "Minimize", "MetricName": "test:mse"},
    ]
    assert training["SupportsDistributedTraining"] is True


def test_metrics_are_the_readmes():
    rows = re.findall(r"^\| `(test:\S+)` \| (\w+) \| `([^`]+)` \|$", README, re.MULTILINE)
    assert rows == [(metric.name, metric.predictor_type, metric.regex) for metric in METRICS]


@pytest.mark.parametrize(
    ("name", "line", "score"),
    [
        # The first two are of AWS's own logs.
        (
            "test:accuracy",
            "#quality_metric: host=algo-1, test accuracy <score>=0.9221369316030429",
            "0.9221369316030429",
        ),
        ("test:macro_f_1.000", "#quality_metric: host=algo-1, test macro_f_1.000 <score>=nan", "nan"),
        ("test:mse", "#quality_metric: host=algo-1, test mse <loss>=0.25", "0.25"),
    ],
)
def test_metrics_find_scores(name, line, score):
    found = {metric.name: re.search(metric.regex, line) for metric in METRICS}
    assert {metric: match[1] for metric, match in found.items() if match} == {name: score}
