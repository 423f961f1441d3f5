"""SageMaker's Python SDK v2 in local mode, with the image."""

import csv
import io
import json
import re
import tarfile

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(1800)]

K = 5
HYPERPARAMETERS = {"feature_dim": 64, "k": K, "sample_size": 2000, "predictor_type": "classifier"}
CSV_CHANNEL = "text/csv;label_size=1"
ASKED = 7  # rows in a request
SINGLE = 3  # rows of a transform that sends each by itself


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits, write_records):
    """The digits as files for training and for batch transform."""
    folder = tmp_path_factory.mktemp("local-mode")
    for name, rows, labels in (
        ("train", digits.train_rows, digits.train_labels),
        ("test", digits.test_rows, digits.test_labels),
    ):
        records = write_records({"rows": rows, "labels": labels}, {"matrix.pbr": ("rows", "labels", False)})
        for kind, content in (
            ("csv", lines(np.column_stack([labels, rows])).encode()),
            ("recordio", records["matrix.pbr"]),
        ):
            (folder / kind / name).mkdir(parents=True)
            (folder / kind / name / f"data.{kind}").write_bytes(content)
    np.save(folder / "queries.npy", digits.test_rows[:ASKED])
    for count in (ASKED, SINGLE):
        asked = digits.test_rows[:count]
        (folder / f"{count}.csv").write_text(lines(asked))
        instances = [json.dumps({"features": row}) + "\n" for row in asked.tolist()]
        (folder / f"{count}.jsonl").write_text("".join(instances))
    records = write_records({"rows": digits.test_rows[:SINGLE]}, {"rows": ("rows", None, False)})
    (folder / f"{SINGLE}.pbr").write_bytes(records["rows"])
    return folder


def lines(rows):
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


TRANSFORMS = {
    # Without a strategy the SDK takes what /execution-parameters says.
    "csv": {"data": f"{ASKED}.csv", "content_type": "text/csv", "split_type": "Line"},
    "csv, multi": {
        "data": f"{ASKED}.csv",
        "content_type": "text/csv",
        "split_type": "Line",
        "strategy": "MultiRecord",
        "assemble_with": "Line",
        "accept": "application/jsonlines",
    },
    "csv, single": {
        "data": f"{SINGLE}.csv",
        "content_type": "text/csv",
        "split_type": "Line",
        "strategy": "SingleRecord",
        "assemble_with": "Line",
        "accept": "text/csv",
    },
    "jsonlines, multi": {
        "data": f"{ASKED}.jsonl",
        "content_type": "application/jsonlines",
        "split_type": "Line",
        "strategy": "MultiRecord",
        "accept": "application/jsonlines; verbose=true",
    },
    "jsonlines, single": {
        "data": f"{SINGLE}.jsonl",
        "content_type": "application/jsonlines",
        "split_type": "Line",
        "strategy": "SingleRecord",
        "assemble_with": "Line",
        "accept": "application/jsonlines; verbose=true",
    },
    # The SDK takes the frames off and sends bare records.
    "recordio, single": {
        "data": f"{SINGLE}.pbr",
        "content_type": "application/x-recordio-protobuf",
        "split_type": "RecordIO",
        "strategy": "SingleRecord",
        "accept": "application/jsonlines",
    },
}


@pytest.fixture(scope="session")
def local_mode(sdk_v2, image, compose_root, free_port):
    """Trains in local mode, with more hyperparameters than the usual ones; and predicts, if there is something to."""

    def local_mode_(output, channels, *, hyperparameters=(), **todo):
        return sdk_v2.run(
            "sdk_v2_local_mode.py",
            image=image,
            root=compose_root,
            port=free_port(),
            output=output,
            hyperparameters=HYPERPARAMETERS | dict(hyperparameters),
            channels=channels,
            **todo,
        )

    return local_mode_


@pytest.fixture(scope="module")
def session(local_mode, folder, tmp_path_factory):
    """All that an estimator is good for, with a classifier."""
    transforms = [
        given | {"name": name, "data": folder / given["data"], "output": tmp_path_factory.mktemp("transform")}
        for name, given in TRANSFORMS.items()
    ]
    return local_mode(
        folder / "classifier",
        {name: {"folder": folder / "csv" / name, "content_type": CSV_CHANNEL} for name in ("train", "test")},
        queries=folder / "queries.npy",
        transforms=transforms,
    )


@pytest.fixture(scope="module")
def answer(session):
    """Gives the answer to a request of the driver, by its name."""

    def answer_(name):
        found = session.result["answers"][name]
        assert "Traceback" not in str(found), found
        return found

    return answer_


@pytest.fixture(scope="module")
def transformed(session):
    """Gives what a transform left in its only file."""

    def transformed_(name):
        files = session.result["transforms"][name]
        assert isinstance(files, dict), files
        ((file, text),) = files.items()
        assert file == f"{TRANSFORMS[name]['data']}.out"
        return text

    return transformed_


@pytest.fixture(scope="module")
def predicted(digits):
    return digits.model(K).predict(digits.queries[:ASKED]).tolist()


def packed(archive):
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def test_fits_csv_with_a_content_type(session, folder, digits):
    assert session.result["model"] == f"file://{folder}/classifier/model.tar.gz"
    assert "manifest.json" in packed(folder / "classifier/model.tar.gz")
    score = re.search(r"#quality_metric: host=\S+, test accuracy <score>=(\S+)", session.log)
    assert float(score[1]) == pytest.approx(digits.model(K).score(digits.queries, digits.test_labels))


def test_the_log_has_no_progress_bars(session):
    training = session.log[: session.log.index("===== Job Complete =====")]
    assert "\r" not in training.replace("\r\n", "\n")


@pytest.mark.parametrize("name", ["csv", "csv, list", "json", "json, nested", "json, sparse", "jsonlines, json"])
def test_predicts_for_the_json_deserializer(answer, predicted, name):
    assert answer(name) == {"predictions": [{"predicted_label": label} for label in predicted]}


def test_predicts_for_a_single_row(answer, predicted):
    assert answer("csv, one row") == {"predictions": [{"predicted_label": predicted[0]}]}


@pytest.mark.parametrize("name", ["jsonlines", "jsonlines, nested", "json, jsonlines"])
def test_predicts_for_the_json_lines_deserializer(answer, predicted, name):
    assert answer(name) == [{"predicted_label": label} for label in predicted]


def test_predicts_for_the_csv_deserializer(answer, predicted):
    assert [[float(cell) for cell in row] for row in answer("csv, csv")] == [[label] for label in predicted]


def test_predicts_for_the_pandas_deserializer(answer, predicted):
    # It takes the first line of CSV for the names of the columns.
    table = answer("csv, pandas")
    assert [table["columns"], *table["data"]] == [[str(predicted[0])], *([label] for label in predicted[1:])]


def test_predicts_in_the_first_type_of_a_list(answer, predicted):
    assert [float(line) for line in answer("csv, either").splitlines()] == predicted


@pytest.mark.parametrize("name", ["csv, string", "csv, bytes"])
def test_predicts_in_json_for_whoever_takes_anything(answer, predicted, name):
    assert json.loads(answer(name)) == {"predictions": [{"predicted_label": label} for label in predicted]}


def test_says_what_it_cannot_answer_in(answer):
    # Local mode hides the status, 406, and gives what the body says.
    assert "application/x-npy" in answer("csv, npy")


@pytest.mark.parametrize("name", ["csv, verbose", "json, verbose", "csv, initial_args"])
def test_predicts_with_neighbours(answer, digits, assert_neighbours, name):
    assert_neighbours(answer(name)["predictions"], digits.model(K), digits.train_labels, digits.queries[:ASKED])


def test_predicts_with_neighbours_in_json_lines(answer, digits, assert_neighbours):
    assert_neighbours(answer("jsonlines, verbose"), digits.model(K), digits.train_labels, digits.queries[:ASKED])


def test_transforms_csv_as_execution_parameters_say(transformed, predicted):
    # One request, for one JSON document is there.
    assert json.loads(transformed("csv")) == {"predictions": [{"predicted_label": label} for label in predicted]}


@pytest.mark.parametrize(("name", "rows"), [("csv, multi", ASKED), ("recordio, single", SINGLE)])
def test_transforms_to_json_lines(transformed, predicted, name, rows):
    # AssembleWith=Line adds a newline to the one that ends each answer.
    found = [json.loads(line) for line in transformed(name).splitlines() if line]
    assert found == [{"predicted_label": label} for label in predicted[:rows]]


def test_transforms_csv_row_by_row(transformed, predicted):
    rows = [row for row in csv.reader(io.StringIO(transformed("csv, single"))) if row]
    assert [[float(cell) for cell in row] for row in rows] == [[label] for label in predicted[:SINGLE]]


@pytest.mark.parametrize(("name", "rows"), [("jsonlines, multi", ASKED), ("jsonlines, single", SINGLE)])
def test_transforms_json_lines_with_neighbours(transformed, digits, assert_neighbours, name, rows):
    answers = [json.loads(line) for line in transformed(name).splitlines() if line]
    assert_neighbours(answers, digits.model(K), digits.train_labels, digits.queries[:rows])


def test_leaves_nothing_running(session, containers, compose_root):
    assert session.result["answers"]
    assert "running" not in containers(compose_root).values()


def test_fits_recordio_without_a_content_type(local_mode, folder, digits, tmp_path):
    channels = {name: {"folder": folder / "recordio" / name} for name in ("train", "test")}
    done = local_mode(tmp_path / "output", channels, hyperparameters={"predictor_type": "regressor"})
    assert done.result == {"model": f"file://{tmp_path}/output/model.tar.gz"}
    predictions = digits.model(K, KNeighborsRegressor).predict(digits.queries)
    score = re.search(r"#quality_metric: host=\S+, test mse <loss>=(\S+)", done.log)
    assert float(score[1]) == pytest.approx(np.mean((predictions - digits.test_labels) ** 2))


def test_a_job_that_fails_fails_in_the_sdk(local_mode, folder, tmp_path):
    channels = {"train": {"folder": folder / "csv/train", "content_type": CSV_CHANNEL}}
    done = local_mode(tmp_path / "output", channels, hyperparameters={"k": 0})
    assert done.result["failure"].endswith("Process exited with code: 1")
    reason = "ClientError: Hyperparameter k: 0 is not in [1, 1024]."
    assert reason in done.log
    (failure,) = [text for name, text in packed(tmp_path / "output/output.tar.gz").items() if name.endswith("failure")]
    assert failure.decode() == reason
