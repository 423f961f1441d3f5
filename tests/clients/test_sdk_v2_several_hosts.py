"""Training on several hosts with SageMaker's Python SDK v2 in local mode, where they share the data and the model."""

import json
import re
import tarfile

import numpy as np
import pytest

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(1800)]

K = 5
ASKED = 20  # rows in the request


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """The digits as CSV, in two files to train on and one to test with."""
    folder = tmp_path_factory.mktemp("several-hosts")
    half = len(digits.train_rows) // 2
    for path, rows, labels in (
        ("train/0.csv", digits.train_rows[:half], digits.train_labels[:half]),
        ("train/1.csv", digits.train_rows[half:], digits.train_labels[half:]),
        ("test/0.csv", digits.test_rows, digits.test_labels),
    ):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("".join(",".join(map(str, row)) + "\n" for row in np.column_stack([labels, rows])))
    np.save(folder / "queries.npy", digits.test_rows[:ASKED])
    return folder


@pytest.fixture(scope="module")
def fit(sdk_v2, image, compose_root, free_port, folder, tmp_path_factory):
    """Trains on so many hosts; gives what the driver left, and the model's files by name."""

    def fit_(instances, *, channels=("train", "test"), **given):
        output = tmp_path_factory.mktemp("output")
        hyperparameters = {"k": K, "sample_size": 2000, "predictor_type": "classifier"}
        done = sdk_v2.run(
            "sdk_v2_several_hosts.py",
            image=image,
            root=compose_root,
            port=free_port(),
            output=output,
            instances=instances,
            hyperparameters=hyperparameters | given.pop("hyperparameters", {}),
            content_type="text/csv;label_size=1",
            channels={name: folder / name for name in channels},
            **given,
        )
        return done, packed(output / "model.tar.gz")

    return fit_


def packed(archive):
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


@pytest.fixture(scope="module")
def two(fit, folder):
    return fit(2, queries=folder / "queries.npy")


@pytest.fixture(scope="module")
def one(fit):
    return fit(1)


def test_two_hosts_make_the_model_of_one(two, one):
    (_, found), (_, expected) = two, one
    assert set(found) == {"manifest.json", "index.faiss", "labels.npy", "ids.npy"}
    assert found["manifest.json"] == expected["manifest.json"]
    assert [name for name in found if found[name] != expected[name]] == []


def test_each_row_is_in_the_model_once(two, digits):
    manifest = json.loads(two[1]["manifest.json"])
    assert [manifest["rows"], manifest["rows_read"]] == [len(digits.train_rows)] * 2


def test_the_model_of_two_hosts_predicts(two, digits, assert_neighbours):
    answers = two[0].result["answers"]
    assert_neighbours(answers, digits.model(K), digits.train_labels, digits.queries[:ASKED])


def test_one_line_for_the_tuner_has_the_score_of_all_rows(two, digits):
    found = re.findall(r"#quality_metric: host=(\S+), test accuracy <score>=(\S+)", two[0].log)
    assert len(found) == 1
    assert re.fullmatch(r"algo-1-\w+", found[0][0])
    assert float(found[0][1]) == pytest.approx(digits.model(K).score(digits.queries, digits.test_labels))


def test_a_job_that_fails_on_two_hosts_fails_in_the_sdk(fit):
    done, model = fit(2, channels=("train",), hyperparameters={"k": 1024, "sample_size": 3})
    assert done.result["failure"].endswith("Process exited with code: 1")
    assert re.search(r"ClientError: .*k is 1024 and the sample has 3 rows", done.log)
    assert "manifest.json" not in model


def test_leaves_nothing_running(two, containers, compose_root):
    assert two[0].result["answers"]
    assert "running" not in containers(compose_root).values()
