"""`index_type=auto`, and the recall of an index, from the job to the server."""

import json
from dataclasses import replace

import faiss
import numpy as np
import pytest

from knn_container.metric import Metric
from knn_container.search import search_for
from knn_container.training import choosing, trials


@pytest.fixture
def slow(monkeypatch):
    """Exact search takes a second a query, so that anything else is faster."""
    timed = trials.Bench.time_exact
    monkeypatch.setattr(
        trials.Bench, "time_exact", lambda bench, room: replace(timed(bench, room), milliseconds=1000.0)
    )


@pytest.fixture(scope="session")
def fit(train, csv, digits):
    """Trains on some digits and gives the job's folder."""

    def fit_(rows=700, *, test=False, **hyperparameters):
        files = {"train/digits.csv": csv(digits.train_rows[:rows], digits.train_labels[:rows])}
        if test:
            files["test/digits.csv"] = csv(digits.test_rows, digits.test_labels)
        return train(files, **({"k": 5} | hyperparameters))

    return fit_


def read(path):
    return json.loads(path.read_text())


def accuracy(client, csv, digits):
    response = client.post("/invocations", data=csv(digits.test_rows), content_type="text/csv")
    assert response.status_code == 200
    return np.mean([it["predicted_label"] for it in response.get_json()["predictions"]] == digits.test_labels)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    ("kind", "lists", "target"),
    [
        ("faiss.HNSW", 0, 0.9),
        ("faiss.IVFFlat", 4, 0.9),
        ("faiss.IVFPQ", 1, 0.5),
        ("faiss.IVFRaBitQ", 1, 0.3),
        ("faiss.IVFSQ8", 1, 0.9),
    ],
)
def test_what_is_chosen_is_the_model_and_is_served(*, fit, serve, csv, digits, monkeypatch, kind, lists, target):
    monkeypatch.setattr(choosing, "_CANDIDATES", ((kind, lists),))
    base = fit(index_type="auto", target_recall=target, test=True)
    manifest, report = read(base / "model/manifest.json"), read(base / "output/data/index.json")
    assert manifest["index_type"] == report["index_type"] == kind
    assert manifest["hyperparameters"]["index_type"] == "auto"
    assert manifest["recall"] == report["recall"]
    assert (manifest["recall"]["k"], manifest["recall"]["queries"] > 600) == (5, True)
    assert manifest["recall"]["value"] >= target
    (chosen,) = [line for line in report["trials"] if line["chosen"]]
    assert (chosen["index_type"], chosen["recall"]) == (kind, manifest["recall"]["value"])
    if lists:
        assert manifest["nprobe"] == report["nprobe"] == manifest["recall"]["nprobe"] == chosen["nprobe"]
    assert report["target_recall"] == target
    assert "milliseconds" not in (base / "model/manifest.json").read_text()
    assert read(base / "output/data/evaluation.json")["index_type"] == kind
    assert accuracy(serve(base / "model"), csv, digits) > 0.85


def test_without_a_test_channel_there_is_a_table_too(fit, serve, csv, digits):
    base = fit(index_type="auto")
    report = read(base / "output/data/index.json")
    assert list(report) == ["index_type", "metric", "rows", "nprobe", "recall", "target_recall", "trials"]
    assert {line["index_type"] for line in report["trials"]} > {"faiss.Flat", "faiss.IVFFlat", "faiss.HNSW"}
    assert report["target_recall"] == 0.99
    assert accuracy(serve(base / "model"), csv, digits) > 0.9


@pytest.mark.parametrize("kind", ["none", "sign"])
def test_reduced_rows_are_not_reduced_again(fit, serve, csv, digits, kind, monkeypatch, slow):
    monkeypatch.setattr(choosing, "_CANDIDATES", (("faiss.IVFRaBitQ", 1),))
    reduction = {} if kind == "none" else {"dimension_reduction_type": kind, "dimension_reduction_target": 40}
    base = fit(index_type="auto", target_recall=0.2, **reduction)
    assert read(base / "model/manifest.json")["reduction"]["type"] == ("rotation" if kind == "none" else "sign")
    assert accuracy(serve(base / "model"), csv, digits) > 0.6


def share_found(rows, found, k):
    """Of each row's k nearest others."""
    wide = rows.astype(np.float64)
    hits = 0
    for number, row in enumerate(wide):
        distances = np.square(wide - row).sum(axis=1).astype(np.float32)
        distances[number] = np.inf
        others = [it for it in found[number] if it != number][:k]
        hits += int((distances[others] <= np.sort(distances)[k - 1]).sum())
    return hits / (len(rows) * k)


@pytest.mark.parametrize(("kind", "nprobe"), [("faiss.IVFFlat", 1), ("faiss.IVFFlat", 4), ("faiss.SQ8", None)])
def test_an_index_given_by_hand_says_what_it_finds(fit, digits, kind, nprobe):
    given = {} if nprobe is None else {"nprobe": nprobe, "faiss_index_ivf_nlists": 25}
    base = fit(index_type=kind, **given)
    index = faiss.read_index(str(base / "model/index.faiss"))
    rows = digits.train_rows[:700].astype(np.float32)
    found = search_for(index, Metric.L2, nprobe or 1)(rows, 6).rows
    expected = {"value": round(share_found(rows, found, 5), 6), "k": 5, "queries": 700, "nprobe": nprobe}
    assert read(base / "model/manifest.json")["recall"] == expected
    assert read(base / "output/data/index.json") == {
        "index_type": kind,
        "metric": "L2",
        "rows": 700,
        "nprobe": nprobe or 5,
        "recall": expected,
    }


def test_exact_search_has_no_report_on_its_index(fit):
    base = fit(test=True)
    assert read(base / "model/manifest.json")["recall"] is None
    assert not (base / "output/data/index.json").exists()


def test_an_older_model_says_nothing_of_recall_and_one_that_cannot_be_is_refused(fit, serve):
    path = fit(index_type="faiss.SQ8") / "model/manifest.json"
    document = read(path)
    for recall, status in (
        ({"value": 2.0, "k": 5, "queries": 3, "nprobe": None}, 503),
        ({"share": 1}, 503),
        (None, 200),
    ):
        path.write_text(json.dumps(document | {"recall": recall}))
        assert serve(path.parent).get("/ping").status_code == status
    del document["recall"]
    path.write_text(json.dumps(document))
    assert serve(path.parent).get("/ping").status_code == 200


def test_the_engines_of_the_exact_search_are_in_the_report(fit):
    found = read(fit(test=True) / "output/data/evaluation.json")
    assert found["engines"]
    assert all(set(it) == {"engine", "queries", "milliseconds", "chosen"} for it in found["engines"])
    for queries in {it["queries"] for it in found["engines"]}:
        assert sum(it["chosen"] for it in found["engines"] if it["queries"] == queries) == 1
