"""The memory of a multi-model server: what a model takes while it is loaded, and what stays when it goes."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests

ROWS, COLUMNS = 160_000, 96  # 61 million bytes of float32
RECORDIO = "application/x-recordio-protobuf"
VECTORS = 4 * ROWS * COLUMNS
TREE = 2 * VECTORS  # its rows are float64
LEFT = VECTORS / 6  # at most, of a model that is gone


@pytest.fixture(scope="module")
def models(write_job, train, recordio):
    """Folders of models of the same rows: FAISS maps their vectors, and a k-d tree holds them too."""
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(ROWS, 3)) @ rng.normal(size=(3, COLUMNS))).astype("<f4")
    # One record many times over, with each row's numbers in the place of its own.
    values = np.arange(1, COLUMNS + 1, dtype="<f4")
    frame = recordio.rows([values.tolist()], [2])
    frames = np.tile(np.frombuffer(frame, np.uint8), (ROWS, 1))
    start = frame.index(values.tobytes())
    frames[:, start : start + values.nbytes] = rows.view(np.uint8)
    options = {
        "held": {"index_type": "faiss.Flat", "search_engine": "kd_tree"},
        "flat": {"index_type": "faiss.Flat"},
        "lists": {"index_type": "faiss.IVFFlat", "index_metric": "COSINE", "faiss_index_ivf_nlists": 100},
    }
    folders = {}
    for name, given in options.items():
        base = write_job({"train/rows": frames.tobytes()}, content_type=RECORDIO, sample_size=ROWS, **given)
        done = train(base, TRAINING_JOB_NAME="job")
        assert done.returncode == 0, done.stdout
        (base / "input/data/train/rows").unlink()
        folders[name] = base / "model"
    return folders


@pytest.fixture(scope="module")
def queries():
    rows = np.random.default_rng(1).normal(size=(50, COLUMNS))
    return "\n".join(",".join(f"{value:.6g}" for value in row) for row in rows)


class Endpoint:
    """A server process and the one worker in it, which holds the models."""

    def __init__(self, server):
        self._url = server.url
        main = server.process.pid
        (self._worker,) = Path(f"/proc/{main}/task/{main}/children").read_text().split()

    def load(self, name, folder):
        body = {"model_name": name, "url": str(folder)}
        return requests.post(f"{self._url}/models", json=body, timeout=60).status_code

    def unload(self, name):
        return requests.delete(f"{self._url}/models/{name}", timeout=60).status_code

    def ask(self, name, body):
        headers = {"Content-Type": "text/csv"}
        return requests.post(f"{self._url}/models/{name}/invoke", body, headers=headers, timeout=60)

    def memory(self):
        """Bytes that are the worker's alone and in no file."""
        rollup = Path(f"/proc/{self._worker}/smaps_rollup").read_text()
        return int(re.search(r"^Anonymous: +(\d+) kB$", rollup, re.MULTILINE)[1]) << 10

    def maps(self, folder):
        """Whether a file of a folder is mapped or open."""
        opened = [os.readlink(path) for path in Path(f"/proc/{self._worker}/fd").iterdir() if path.is_symlink()]  # noqa: PTH115
        return str(folder) in Path(f"/proc/{self._worker}/maps").read_text() + "\n".join(opened)


@pytest.fixture(scope="module")
def endpoint(serving, tmp_path_factory, models, queries):
    """Many models behind one server, which has answered once."""
    with serving(tmp_path_factory.mktemp("ml"), SAGEMAKER_MULTI_MODEL="true") as server:
        endpoint_ = Endpoint(server)
        assert endpoint_.load("first", models["held"]) == 200
        assert endpoint_.ask("first", queries).status_code == 200
        assert endpoint_.unload("first") == 200
        yield endpoint_


def cycle(endpoint, folder, queries):
    """Loads a model, asks it, and unloads it; gives the memory while it was there and after."""
    assert endpoint.load("model", folder) == 200
    assert endpoint.ask("model", queries).status_code == 200
    during = endpoint.memory()
    assert endpoint.unload("model") == 200
    return during, endpoint.memory()


def test_memory_is_free_once_the_answer_to_an_unload_has_come(endpoint, models, queries):
    before = endpoint.memory()
    for _ in range(6):
        during, after = cycle(endpoint, models["held"], queries)
        assert during > before + 0.9 * TREE
        assert after < before + LEFT


def test_models_do_not_pile_up(endpoint, models, queries):
    before = endpoint.memory()
    after = [cycle(endpoint, models["held"], queries)[1] for _ in range(8)]
    assert max(after) < before + LEFT
    assert not endpoint.maps(models["held"])


def test_each_of_many_models_gives_back_its_own_share(endpoint, models, queries):
    before = endpoint.memory()
    for name in "abc":
        assert endpoint.load(name, models["held"]) == 200
        assert endpoint.ask(name, queries).status_code == 200
    for left, name in ((2, "b"), (1, "a"), (0, "c")):
        assert endpoint.unload(name) == 200
        held = endpoint.memory() - before
        assert (left - 0.1) * TREE < held < (left + 0.5) * TREE


@pytest.mark.parametrize("name", ["flat", "lists", "held"])
def test_files_that_are_mapped_are_let_go(endpoint, models, queries, name):
    before = endpoint.memory()
    assert endpoint.load(name, models[name]) == 200
    assert endpoint.ask(name, queries).status_code == 200
    assert endpoint.maps(models[name])
    if name != "held":
        assert endpoint.memory() < before + VECTORS / 3
    assert endpoint.unload(name) == 200
    assert not endpoint.maps(models[name])


def test_answers_that_are_under_way_keep_no_memory_when_they_end(endpoint, models, queries):
    before = endpoint.memory()
    assert endpoint.load("busy", models["held"]) == 200
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(endpoint.ask, "busy", queries) for _ in range(40)]
        time.sleep(0.05)
        assert endpoint.unload("busy") == 200
        statuses = {it.result().status_code for it in asked}
    # A request came before the unload and was answered, or after it and was refused.
    assert statuses <= {200, 404}
    assert endpoint.ask("busy", queries).status_code == 404
    assert endpoint.memory() < before + LEFT


def test_the_budget_of_the_setting_is_kept(serving, tmp_path, models):
    with serving(tmp_path, SAGEMAKER_MULTI_MODEL="true", KNN_MODEL_MEMORY=7 * VECTORS) as server:  # each takes three
        endpoint = Endpoint(server)
        assert [endpoint.load(name, models["held"]) for name in ("a", "b", "c")] == [200, 200, 507]
        assert endpoint.unload("a") == 200
        assert endpoint.load("c", models["held"]) == 200
        assert server.ping() == 200
