"""What a stranger's request or model cannot take."""

import json
import tracemalloc

import numpy as np
import pytest

from knn_container.serving import app as app_module
from knn_container.serving import dataplane
from knn_container.serving.app import create_app
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.multimodel import create_multi_model_app
from knn_container.serving.preparation import Preparation
from knn_container.serving.store import ModelHolder, ModelStore
from knn_container.serving.turns import CpuTurns


def ask(client, body, accept="application/json", content_type="text/csv"):
    return client.post("/invocations", data=body, content_type=content_type, headers={"Accept": accept})


def test_more_neighbours_than_an_answer_may_hold_are_refused(line, monkeypatch):
    monkeypatch.setattr(dataplane, "_MOST_NUMBERS", 8)
    refused = ask(line, b"1\n2\n3\n", "application/json; verbose=true")
    assert refused.status_code == 400
    assert "3 rows with 3 numbers each: expected at most 8" in refused.get_json()["error"]
    assert ask(line, b"1\n2\n3\n").status_code == 200
    assert ask(line, b"1\n2\n", "application/json; verbose=true").status_code == 200


@pytest.mark.parametrize("accept", ["application/json", "application/jsonlines", "text/csv"])
def test_an_answer_in_steps_is_the_answer_in_one(client, digits, csv, accept, monkeypatch):
    body = csv(digits.test_rows[:50])
    whole = ask(client, body, f"{accept}; verbose=true").data
    monkeypatch.setattr(dataplane, "_BLOCK", 7 * digits.test_rows.shape[1])
    assert ask(client, body, f"{accept}; verbose=true").data == whole


@pytest.mark.parametrize(
    "instances",
    [
        [{"data": {"features": {"keys": [3], "shape": [64], "values": [1]}}}] * 20_000,
        [{"features": ["x" * 100_000, *[1] * 63]}],
    ],
    ids=["sparse rows", "a long text"],
)
def test_a_json_request_takes_memory_in_step_with_its_size(client, instances):
    body = json.dumps({"instances": instances}).encode()
    tracemalloc.start()
    ask(client, body, content_type="application/json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * len(body) + (4 << 20)


def test_requests_beyond_the_places_are_told_to_come_again(trained, monkeypatch):
    monkeypatch.setattr(app_module, "_PLACES", 0)
    holder = ModelHolder()
    holder.load(Preparation(trained / "model"))
    client = create_app(DataPlane(CpuTurns(1)), holder, 1 << 20).test_client()
    assert ask(client, b"1").status_code == 503
    assert client.get("/ping").status_code == 200


def test_a_call_to_load_a_model_has_a_small_body():
    client = create_multi_model_app(DataPlane(CpuTurns(1)), ModelStore(1 << 30), 1 << 30).test_client()
    assert client.post("/models", data=b" " * 70_000).status_code == 413


@pytest.mark.parametrize(
    "change",
    [
        {"k": 1025},
        {"reduction": {"type": "evil", "target": 64, "seed": 0}},
        {"reduction": {"type": "sign", "target": 65, "seed": 0}},
        {"reduction": {"type": "sign", "target": 64, "seed": "0"}},
        {"reduction": {"type": "sign", "target": 64}},
    ],
    ids=str,
)
def test_a_manifest_that_asks_for_what_cannot_be_is_refused(trained, tmp_path, serve, change):
    for path in (trained / "model").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    answer = serve(tmp_path).get("/ping")
    assert answer.status_code == 503
    assert "manifest.json is damaged" in answer.get_json()["error"]


@pytest.mark.parametrize("aggregation", ["mean", "median"])
def test_a_regressor_never_answers_infinity(serve_rows, aggregation):
    largest = np.full(4, 1.7e308)
    client = serve_rows(
        np.arange(4.0)[:, np.newaxis],
        largest,
        label_kind="float64",
        k=4,
        predictor_type="regressor",
        aggregation=aggregation,
    )
    (row,) = ask(client, b"1\n").get_json()["predictions"]
    assert row["predicted_label"] == pytest.approx(1.7e308)


def test_a_parameter_in_pieces_that_do_not_fit_is_passed_over(line):
    assert ask(line, b"1\n", "application/json;x*0=1;x*=2").status_code == 200


def test_a_request_that_is_told_to_come_again_is_told_when(trained, monkeypatch):
    monkeypatch.setattr(app_module, "_PLACES", 0)
    holder = ModelHolder()
    holder.load(Preparation(trained / "model"))
    refused = ask(create_app(DataPlane(CpuTurns(1)), holder, 1 << 20).test_client(), b"1")
    assert "requests are under way" in refused.get_json()["error"]
    assert int(refused.headers["Retry-After"]) >= 1


def test_a_large_request_is_answered_in_steps_as_at_once(serve, trained, digits, csv, monkeypatch):
    client = serve(trained / "model", 1 << 22)
    body = csv(np.tile(digits.test_rows[:100], (30, 1)))
    alone = [ask(client, csv(row[np.newaxis]), "text/csv; verbose=true").data for row in digits.test_rows[:100]]
    assert ask(client, body, "text/csv; verbose=true").data == b"".join(alone * 30)
    monkeypatch.setattr(dataplane, "_STEP_SECONDS", 0)
    assert ask(client, body, "text/csv; verbose=true").data == b"".join(alone * 30)
