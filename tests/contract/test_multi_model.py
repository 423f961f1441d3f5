"""The container API of a multi-model endpoint: models that come and go below one memory budget."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from knn_container.model import Model
from knn_container.serving import store
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.multimodel import create_multi_model_app
from knn_container.serving.store import ModelStore
from knn_container.serving.turns import CpuTurns

SIZES = ("index.faiss", "labels.npy", "ids.npy", "manifest.json")


@pytest.fixture(scope="module")
def folder(train):
    """Rows 0, 1 and 5, labelled 10, 20 and 30, with k=1."""
    return train({"train/rows.csv": b"10,0\n20,1\n30,5\n"}, k=1) / "model"


@pytest.fixture(scope="module")
def other(train):
    """The same rows with other labels."""
    return train({"train/rows.csv": b"11,0\n21,1\n31,5\n"}, k=1) / "model"


@pytest.fixture(scope="module")
def size(folder):
    return sum((folder / name).stat().st_size for name in SIZES)


class Endpoint:
    def __init__(self, budget):
        self._app = create_multi_model_app(DataPlane(CpuTurns(2)), ModelStore(budget), 1 << 20)

    @property
    def http(self):
        return self._app.test_client()

    def load(self, name, url):
        return self.http.post("/models", json={"model_name": name, "url": str(url)})

    def invoke(self, name, body="0.9", **headers):
        return self.http.post(f"/models/{name}/invoke", data=body, content_type="text/csv", headers=headers)

    def names(self):
        return [model["modelName"] for model in self.http.get("/models").get_json()["models"]]


@pytest.fixture
def endpoint():
    return Endpoint(1 << 30)


def test_a_model_that_is_loaded_has_its_engines_compared(endpoint, folder, caplog):
    with caplog.at_level("INFO"):
        assert endpoint.load("one", folder).status_code == 200
    assert any(it.startswith("Exact search of 1 queries: products") for it in caplog.messages)


def test_ping_is_200_with_no_model_and_with_some(endpoint, folder):
    assert (endpoint.http.get("/ping").status_code, endpoint.http.get("/ping").data) == (200, b"")
    endpoint.load("a", folder)
    assert endpoint.http.get("/ping").status_code == 200


def test_a_model_is_loaded_described_asked_and_unloaded(endpoint, folder):
    assert endpoint.http.get("/models").get_json() == {"models": []}
    loaded = endpoint.load("a1b2", folder)
    assert (loaded.status_code, loaded.get_json()) == (200, {"status": 'Model "a1b2" registered'})
    entry = {"modelName": "a1b2", "modelUrl": str(folder)}
    assert endpoint.http.get("/models").get_json() == {"models": [entry]}
    assert endpoint.http.get("/models/a1b2").get_json() == entry
    assert endpoint.invoke("a1b2").get_json() == {"predictions": [{"predicted_label": 20.0}]}
    unloaded = endpoint.http.delete("/models/a1b2")
    assert (unloaded.status_code, unloaded.get_json()) == (200, {"status": 'Model "a1b2" unregistered'})
    assert endpoint.names() == []
    assert endpoint.load("a1b2", folder).status_code == 200


def test_each_request_is_answered_by_its_model(endpoint, folder, other):
    endpoint.load("a", folder)
    endpoint.load("b", other)
    for body, label in (("0.1", 0), ("4", 20)):
        for name, first in (("a", 10), ("b", 11)):
            assert endpoint.invoke(name, body).get_json()["predictions"] == [{"predicted_label": first + label}]


def test_an_invocation_has_the_options_of_invocations(endpoint, folder):
    endpoint.load("a", folder)
    headers = {
        "Accept": "application/jsonlines; verbose=true",
        "X-Amzn-SageMaker-Target-Model": "some/path.tar.gz",
        "X-Amzn-SageMaker-Custom-Attributes": "trace=7",
    }
    answer = endpoint.invoke("a", "2", **headers)
    assert answer.data == b'{"predicted_label":20.0,"distances":[1.0],"labels":[20.0]}\n'
    assert answer.headers["X-Amzn-SageMaker-Custom-Attributes"] == "trace=7"
    assert endpoint.invoke("a", "1,2").status_code == 400
    assert endpoint.invoke("a", Accept="application/x-npy").status_code == 406


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/invoke")])
def test_a_model_that_is_not_loaded_is_404_and_named(endpoint, folder, method, path):
    for name in ("never", "gone"):
        if name == "gone":
            endpoint.load(name, folder)
            endpoint.http.delete(f"/models/{name}")
        answer = endpoint.http.open(f"/models/{name}{path}", method=method, data="1", content_type="text/csv")
        assert answer.status_code == 404
        assert answer.get_json() == {"error": f"The model '{name}' is not loaded.", "status": 404}


def test_a_name_that_is_taken_is_409_and_its_model_stays(endpoint, folder, other):
    endpoint.load("a", folder)
    again = endpoint.load("a", other)
    assert again.status_code == 409
    assert "'a'" in again.get_json()["error"]
    assert endpoint.invoke("a").get_json()["predictions"] == [{"predicted_label": 20.0}]


@pytest.mark.parametrize("spare", [-1, 0])
def test_a_model_beyond_the_budget_is_507_until_another_goes(folder, size, spare):
    endpoint = Endpoint(2 * size + spare)
    statuses = [endpoint.load(name, folder).status_code for name in "abc"]
    assert statuses == ([200, 200, 507] if spare == 0 else [200, 507, 507])
    refused = endpoint.load("c", folder)
    assert refused.status_code == 507
    error = refused.get_json()["error"]
    assert all(str(number) in error for number in (size, 2 * size + spare))
    assert "KNN_MODEL_MEMORY" in error
    endpoint.http.delete("/models/a")
    assert endpoint.load("c", folder).status_code == 200


def damaged(folder, target, how):
    shutil.copytree(folder, target)
    match how:
        case "a flipped bit":
            content = bytearray((target / "index.faiss").read_bytes())
            content[-1] ^= 1
            (target / "index.faiss").write_bytes(content)
        case "no manifest":
            (target / "manifest.json").unlink()
        case "nothing":
            shutil.rmtree(target)
        case "labels that its votes do not take":
            manifest = json.loads((target / "manifest.json").read_text())
            manifest |= {"predictor_type": "regressor", "aggregation": "geometric_mean", "hyperparameters": {}}
            (target / "manifest.json").write_text(json.dumps(manifest))
    return target


@pytest.mark.parametrize(
    "how",
    [
        "a flipped bit",
        "no manifest",
        "nothing",
        "labels that its votes do not take",
    ],
)
def test_a_model_that_cannot_be_loaded_is_400_and_leaves_nothing(train, folder, size, tmp_path, how):
    source = train({"train/rows.csv": b"-1,0\n20,1\n30,5\n"}, k=1) / "model" if "votes" in how else folder
    endpoint = Endpoint(size)
    refused = endpoint.load("a", damaged(source, tmp_path / "copy", how))
    assert endpoint.names() == []
    assert endpoint.invoke("a").status_code == 404
    assert endpoint.load("a", folder).status_code == 200  # the budget is all there
    assert refused.status_code == 400
    assert "'a' cannot be loaded" in refused.get_json()["error"]


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[]", b'{"model_name": "a"}', b'{"url": "/x"}', b'{"model_name": 3, "url": "/x"}', b"null"],
)
def test_a_load_without_a_name_and_a_folder_is_400(endpoint, body):
    refused = endpoint.http.post("/models", data=body, content_type="application/json")
    assert refused.status_code == 400
    assert "model_name" in refused.get_json()["error"]


def test_the_list_comes_in_pages_in_the_order_of_names(endpoint, folder):
    names = [f"model-{number:03}" for number in range(103)]
    for name in reversed(names):
        assert endpoint.load(name, folder).status_code == 200
    for limit, pages in ((None, [100, 3]), (40, [40, 40, 23]), (1000, [100, 3])):
        came, token = [], None
        for page in pages:
            query = {"limit": limit, "next_page_token": token}
            answer = endpoint.http.get("/models", query_string={k: v for k, v in query.items() if v}).get_json()
            assert len(answer["models"]) == page
            came += [model["modelName"] for model in answer["models"]]
            token = answer.get("nextPageToken")
        assert token is None
        assert came == names
    assert endpoint.http.get("/models?limit=x").status_code == 400
    assert endpoint.http.get("/models?next_page_token=-1").status_code == 400


def slowly(monkeypatch, holder, name):
    """Makes a function wait, and gives what tells that it is reached and what lets it go on."""
    reached, go = threading.Event(), threading.Event()
    original = getattr(holder, name)

    def wait(*args, **options):
        reached.set()
        assert go.wait(30)
        return original(*args, **options)

    monkeypatch.setattr(holder, name, wait)
    return reached, go


def test_of_loads_of_one_name_at_once_one_is_200_and_the_others_409(endpoint, folder, monkeypatch):
    reached, go = slowly(monkeypatch, store, "load_model")
    with ThreadPoolExecutor(2) as pool:
        # The endpoint's two turns: one load is under way, the other is refused at once.
        first = pool.submit(endpoint.load, "a", folder)
        assert reached.wait(30)
        assert [endpoint.load("a", folder).status_code for _ in range(5)] == [409] * 5
        assert endpoint.names() == []
        assert endpoint.invoke("a").status_code == 404
        go.set()
        assert first.result().status_code == 200
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: endpoint.load("b", folder).status_code, range(8)))
    assert sorted(statuses) == [200] + [409] * 7


def test_an_invocation_under_way_is_answered_before_its_model_goes(endpoint, folder, monkeypatch):
    endpoint.load("a", folder)
    reached, go = slowly(monkeypatch, Model, "predict")
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(endpoint.invoke, "a")
        assert reached.wait(30)
        unloaded = pool.submit(endpoint.http.delete, "/models/a")
        while endpoint.names():  # the model is no longer there for others
            pass
        assert endpoint.invoke("a").status_code == 404
        assert not unloaded.done()
        go.set()
        assert asked.result().get_json()["predictions"] == [{"predicted_label": 20.0}]
        assert unloaded.result().status_code == 200
