"""Options of a request, what the environment sets for all of them, and what may be edited after training."""

import json

import numpy as np
import pytest

from knn_container.errors import UserError
from knn_container.serving.app import create_app
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.negotiation import read_defaults
from knn_container.serving.preparation import Preparation
from knn_container.serving.store import ModelHolder
from knn_container.serving.turns import CpuTurns

JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"
RECORDIO = "application/x-recordio-protobuf"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
# Of the rows 0, 1, 3 and 7, labelled 10, 20, 20 and 30, what 2.5 is near, by hand.
ANSWER = {
    "predicted_label": 20,
    "distances": [0.25, 2.25, 6.25],
    "labels": [20, 20, 10],
    "ids": [2, 1, 0],
    "probability": 2 / 3,
    "probabilities": [1 / 3, 2 / 3, 0],
    "classes": [10, 20, 30],
}
# `predicted_label` first and the neighbours' labels before their distances, as verbose CSV has them.
CSV_ORDER = ["predicted_label", "labels", "distances", "ids", "probability", "probabilities", "classes"]


def ask(client, body="2.5", accept=None, attributes=None, status=200):
    headers = {name: value for name, value in (("Accept", accept), (ATTRIBUTES, attributes)) if value is not None}
    response = client.post("/invocations", data=body, content_type=CSV, headers=headers)
    assert response.status_code == status, response.data
    return response


@pytest.fixture
def serve_as():
    """Serves a folder under other settings."""

    def serve_(folder, accept=JSON, output="predicted_label", *, euclidean=False):
        holder = ModelHolder()
        holder.load(Preparation(folder))
        plane = DataPlane(CpuTurns(2), read_defaults(accept, output), euclidean)
        return create_app(plane, holder, 1 << 20).test_client()

    return serve_


@pytest.fixture(scope="module")
def folder(train):
    return train({"train/rows.csv": b"10,0\n20,1\n20,3\n30,7\n"}) / "model"


@pytest.fixture(scope="module")
def check():
    """Compares an answer to one row with the columns that it is to have."""

    def check_(response, names, recordio):
        match response.content_type:
            case "application/json":
                (row,) = response.get_json()["predictions"]
            case "application/jsonlines":
                row = json.loads(response.data)
            case "application/x-recordio-protobuf":
                (record,) = recordio.read(response.data)
                row = {
                    name: values[0] if np.ndim(ANSWER[name]) == 0 else values for name, (_, values) in record.items()
                }
            case "text/csv":
                cells = [float(cell) for cell in response.data.split(b",")]
                expected = [np.ravel(ANSWER[name]) for name in CSV_ORDER if name in names]
                np.testing.assert_allclose(cells, np.concatenate(expected), rtol=1e-7)
                return
        assert set(row) == set(names)
        for name in names:
            np.testing.assert_allclose(row[name], ANSWER[name], rtol=1e-7)

    return check_


@pytest.mark.parametrize("accept", [JSON, LINES, RECORDIO, CSV])
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("verbose=true", ["predicted_label", "distances", "labels"]),
        ("verbose=true; output=ids", ["predicted_label", "distances", "labels", "ids"]),
        ('output="predicted_label,ids"', ["predicted_label", "ids"]),
        ('output=" IDS , Labels"', ["labels", "ids"]),
        ('output="classes,probabilities,predicted_label"', ["predicted_label", "probabilities", "classes"]),
        (f'output="{",".join(ANSWER)}"', list(ANSWER)),
        ("verbose=false", ["predicted_label"]),
    ],
)
@pytest.mark.parametrize("place", ["Accept", "attributes"])
def test_an_answer_has_the_columns_asked_for(*, line, check, recordio, accept, options, names, place):
    if place == "Accept":
        response = ask(line, accept=f"{accept}; {options}")
    else:
        response = ask(line, accept=accept, attributes=options)
    assert response.content_type == accept
    check(response, names, recordio)


@pytest.mark.parametrize(
    ("accept", "attributes", "k"),
    [
        ("application/json; verbose=true; k=2", None, 2),
        ("application/json; verbose=true", "k=2", 2),
        ("application/json; verbose=true", "trace=ab12; k=2; other", 2),
        ("application/json; verbose=true", 'K="1"', 1),
        ("application/json; verbose=true; k=1", "k=2", 2),  # the attributes count where both have one
        ("application/json; verbose=true; k=3", "nprobe=1", 3),
        ("*/*; verbose=true; k=2", None, 2),
        ("application/json; verbose=true", "c000b4f9-df62-4c85-a0bf-7c525f9104a4", 3),
    ],
)
def test_k_neighbours_vote_and_are_told(line, accept, attributes, k):
    (row,) = ask(line, "0.4", accept, attributes).get_json()["predictions"]
    # Of 10, 20 and 20; a tie goes to the smallest label.
    assert row["predicted_label"] == {1: 10, 2: 10, 3: 20}[k]
    assert row["labels"] == [10, 20, 20][:k]
    np.testing.assert_allclose(row["distances"], [0.16, 0.36, 6.76][:k], rtol=1e-6)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("k=4", "expected at most the model's 3, 4 came"),
        ("k=999999999", "expected at most the model's 3, 999999999 came"),
        ("k=99999999999999999999", "The option k"),
        ("k=0", "expected a whole number from 1, '0' came"),
        ("k=2.0", "'2.0' came"),
        ("k=two", "'two' came"),
        ("k=", "'' came"),
        ("nprobe=0", "The option nprobe"),
        ("output=distance", "distance came"),
        ("output=", "The option output"),
        ("verbose=maybe", "verbose=maybe came"),
        ("k=" + 5000 * "9", "The option k"),
    ],
)
@pytest.mark.parametrize("place", ["Accept", "attributes"])
def test_an_option_that_cannot_be_is_400_and_the_attributes_come_back(line, option, words, place):
    attributes = option if place == "attributes" else "trace=1"
    response = ask(
        line, accept=JSON if place == "attributes" else f"{JSON}; {option}", attributes=attributes, status=400
    )
    assert words in response.get_json()["error"]
    assert response.headers[ATTRIBUTES] == attributes


@pytest.mark.parametrize("attributes", ["", "k=2", "a b; c", 'x="y;z', ";;;=", "k*=utf-8''2", "ä", "%20" * 300])
@pytest.mark.parametrize(
    ("path", "content_type", "body", "status"),
    [
        ("/invocations", CSV, "1", 200),
        ("/invocations", CSV, "1,2", 400),
        ("/invocations", "image/png", "1", 415),
        ("/invocations", CSV, "1" * (2 << 20), 413),
        ("/nowhere", CSV, "1", 404),
    ],
)
def test_the_attributes_come_back_as_they_came(*, line, attributes, path, content_type, body, status):
    response = line.post(path, data=body, content_type=content_type, headers={ATTRIBUTES: attributes})
    assert response.status_code == status
    assert response.headers[ATTRIBUTES] == attributes
    assert ATTRIBUTES not in line.get("/ping").headers


@pytest.mark.parametrize(("options", "found"), [("", 2), ("; nprobe=1", 2), ("; nprobe=2", 5), ("; nprobe=1000", 5)])
def test_nprobe_lists_are_looked_into(serve_rows, options, found):
    rows = [[10, i / 10] for i in range(8)] + [[0, 10], [0.1, 10]]
    client = serve_rows(rows, list(range(10)), k=5, index_type="faiss.IVFFlat", faiss_index_ivf_nlists=2, nprobe=1)
    for accept, attributes in ((f"{JSON}; verbose=true{options}", None), (f"{JSON}; verbose=true", options)):
        (row,) = ask(client, "0,9", accept, attributes).get_json()["predictions"]
        assert len(row["labels"]) == found
        assert row["labels"][:2] == [8, 9]


@pytest.mark.parametrize("output", ["probability", "probabilities", "classes"])
def test_a_regressor_has_no_classes(serve_rows, output):
    client = serve_rows([[0], [1], [3]], [1, 2, 3], predictor_type="regressor")
    assert "no classes" in ask(client, accept=f"{JSON}; output={output}", status=400).get_json()["error"]


@pytest.mark.parametrize(
    ("output", "accept", "names"),
    [
        ("predicted_label", "*/*", ["predicted_label"]),
        ("Predicted_Label, Probability", "*/*", ["predicted_label", "probability"]),
        # Asked for verbosely, an answer is the built-in's unless ids are among the columns.
        ("predicted_label", "*/*; verbose=true", ["predicted_label", "distances", "labels"]),
        ("probability", "*/*; verbose=true", ["predicted_label", "distances", "labels", "probability"]),
        ("ids", "*/*; verbose=true", ["predicted_label", "distances", "labels", "ids"]),
        ("ids", "*/*; output=labels", ["labels"]),
    ],
)
@pytest.mark.parametrize("kind", [JSON, LINES, RECORDIO, CSV])
def test_the_setting_names_the_columns_of_requests_that_do_not(
    *, serve_as, folder, check, recordio, output, accept, names, kind
):
    client = serve_as(folder, output=output)
    check(ask(client, accept=accept.replace("*/*", kind)), names, recordio)


@pytest.mark.parametrize(
    ("default", "accept", "kind", "names"),
    [
        (CSV, None, CSV, ["predicted_label"]),
        (CSV, "", CSV, ["predicted_label"]),
        (CSV, LINES, LINES, ["predicted_label"]),
        (f"{LINES}; verbose=true", None, LINES, ["predicted_label", "distances", "labels"]),
        (f"{LINES}; verbose=true", "*/*", LINES, ["predicted_label", "distances", "labels"]),
        (f"{LINES}; verbose=true", LINES, LINES, ["predicted_label"]),
        (f"{JSON}; output=ids", None, JSON, ["ids"]),
    ],
)
def test_the_default_accept_is_that_of_requests_without_one(
    *, serve_as, folder, check, recordio, default, accept, kind, names
):
    response = ask(serve_as(folder, accept=default), accept=accept)
    assert response.content_type == kind
    check(response, names, recordio)


@pytest.mark.parametrize(
    ("accept", "output", "words"),
    [
        ("image/png", "predicted_label", "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"),
        (f"{JSON}; k=none", "predicted_label", "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"),
        (JSON, "predicted_score", "SAGEMAKER_INFERENCE_OUTPUT: expected some of .* predicted_score came"),
    ],
)
def test_settings_that_cannot_be_answered_are_refused_by_name(accept, output, words):
    with pytest.raises(UserError, match=words):
        read_defaults(accept, output)


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize("metric", ["L2", "COSINE", "INNER_PRODUCT"])
def test_the_roots_of_squared_distances_are_answered_where_they_are_asked_for(serve_as, train, metric, euclidean):
    folder = train({"train/rows.csv": b"1,3,4\n2,6,8\n3,-8,6\n"}, index_metric=metric, k=3) / "model"
    (row,) = ask(serve_as(folder, euclidean=euclidean), "0,0.5", f"{JSON}; verbose=true").get_json()["predictions"]
    squares = [3**2 + 3.5**2, 8**2 + 5.5**2, 6**2 + 7.5**2]
    distances = np.sqrt(squares) if euclidean else squares
    expected = {"L2": distances, "COSINE": [0.8, 0.8, 0.6], "INNER_PRODUCT": [2, 4, 3]}[metric]
    np.testing.assert_allclose(row["distances"], np.sort(expected), rtol=1e-6)
