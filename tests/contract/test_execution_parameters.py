"""What a batch transform is told before it begins."""

import pytest

from knn_container import settings
from knn_container.memory import SharedBlock
from knn_container.serving import server
from knn_container.serving.app import create_app
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.negotiation import Defaults
from knn_container.serving.preparation import Preparation
from knn_container.serving.processes import Processes
from knn_container.serving.store import ModelHolder
from knn_container.serving.turns import CpuTurns


def ask(cpus, max_content_length, **options):
    client = create_app(DataPlane(CpuTurns(cpus)), ModelHolder(), max_content_length, **options).test_client()
    response = client.get("/execution-parameters")
    assert (response.status_code, response.content_type) == (200, "application/json")
    return response.get_json()


@pytest.mark.parametrize(
    ("cpus", "megabytes", "expected"),
    [
        (1, 100, 6),
        (2, 100, 6),
        (16, 100, 6),
        # The platform refuses more than 100 MB side by side.
        (17, 100, 5),
        (48, 100, 2),
        (96, 100, 1),
        # A payload that the server would refuse is of no use.
        (2, 4, 4),
        (2, 1, 1),
    ],
)
def test_as_many_requests_as_cpus_and_as_much_as_the_limits_allow(cpus, megabytes, expected):
    parameters = ask(cpus, megabytes << 20)
    assert parameters == {"MaxConcurrentTransforms": cpus, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": expected}
    assert parameters["MaxConcurrentTransforms"] * parameters["MaxPayloadInMB"] <= 100


def test_no_more_than_100_requests_at_once_since_each_has_a_megabyte():
    parameters = ask(128, 100 << 20)
    assert parameters["MaxConcurrentTransforms"] * parameters["MaxPayloadInMB"] <= 100


@pytest.mark.parametrize("limit", [(1 << 20) - 1, 1000, 1])
def test_a_limit_below_a_megabyte_is_one_megabyte_the_least_there_is(limit):
    # 0 would stand for a payload without a limit.
    assert ask(2, limit)["MaxPayloadInMB"] == 1


@pytest.mark.parametrize(
    ("batch", "spelling"),
    [("True", "MultiRecord"), ("true", "MULTI_RECORD"), ("", "MULTI_RECORD"), (None, "MULTI_RECORD")],
)
def test_the_sdks_local_mode_and_the_platform_have_their_own_spellings(tmp_path, batch, spelling):
    environment = {"SAGEMAKER_BASE_DIR": str(tmp_path)} | ({} if batch is None else {"SAGEMAKER_BATCH": batch})
    shared = server.Shared(Preparation(tmp_path / "model"), Processes(), SharedBlock())
    app = server.make_app(settings.read(environment), Defaults(), shared, 0)
    assert app.test_client().get("/execution-parameters").get_json()["BatchStrategy"] == spelling


def test_the_parameters_are_told_before_the_model_is_there(tmp_path):
    client = create_app(DataPlane(CpuTurns(1)), ModelHolder(), 1 << 20).test_client()
    assert client.get("/ping").status_code == 503
    assert client.get("/execution-parameters").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_they_are_asked_for_with_get_alone(client, method):
    assert client.open("/execution-parameters", method=method).status_code == 405
