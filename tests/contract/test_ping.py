import pytest

from knn_container.serving.app import create_app
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.preparation import Preparation
from knn_container.serving.store import ModelHolder
from knn_container.serving.turns import CpuTurns


def test_ping_answers_200_with_an_empty_body(client):
    response = client.get("/ping")
    assert (response.status_code, response.get_data()) == (200, b"")


@pytest.mark.parametrize(("method", "path"), [("get", "/ping"), ("post", "/invocations")])
class TestWithoutAModel:
    def test_before_it_is_loaded_the_answer_is_503(self, serve, method, path):
        response = getattr(serve(), method)(path, data="1", content_type="text/csv")
        assert response.status_code == 503
        assert "being loaded" in response.get_json()["error"]

    def test_where_there_is_none_503_names_the_file_that_is_missing(self, serve, tmp_path, method, path):
        response = getattr(serve(tmp_path), method)(path, data="1", content_type="text/csv")
        assert response.status_code == 503
        assert f"{tmp_path}/manifest.json does not exist" in response.get_json()["error"]

    def test_where_the_folder_is_missing_503_says_so(self, serve, tmp_path, method, path):
        response = getattr(serve(tmp_path / "none"), method)(path, data="1", content_type="text/csv")
        assert response.status_code == 503
        assert "does not exist" in response.get_json()["error"]

    def test_where_it_is_corrupt_503_names_the_file(self, serve, tmp_path, method, path):
        (tmp_path / "manifest.json").write_text("not JSON")
        response = getattr(serve(tmp_path), method)(path, data="1", content_type="text/csv")
        assert response.status_code == 503
        assert "manifest.json is not a model's manifest" in response.get_json()["error"]


def test_a_model_that_is_loaded_later_turns_503_into_200(trained):
    holder = ModelHolder()
    client = create_app(DataPlane(CpuTurns(2)), holder, 1 << 20).test_client()
    before = client.get("/ping").status_code
    holder.load(Preparation(trained / "model"))
    assert (before, client.get("/ping").status_code) == (503, 200)


def test_a_model_that_is_loaded_has_its_engines_compared(serve, trained, caplog):
    with caplog.at_level("INFO"):
        serve(trained / "model")
    ready, *compared, settled = caplog.messages
    assert ready.startswith("Ready: ")
    assert compared[0].startswith("Exact search of 1 queries: products")
    assert settled.endswith("settled.")
