"""SageMaker's Python SDK v3, which has local mode but neither an estimator for k-NN nor RecordIO."""

import json
import re
import tarfile

import numpy as np
import pytest
import requests

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(900)]

K = 5


@pytest.fixture(scope="module")
def trained(sdk_v3, image, digits, tmp_path_factory, compose_root):
    """Trains in a local container, which gets no command; gives the folder of what it left, and the log."""
    data = tmp_path_factory.mktemp("data")
    for name, rows, labels in (
        ("train", digits.train_rows, digits.train_labels),
        ("test", digits.test_rows, digits.test_labels),
    ):
        (data / name).mkdir()
        table = np.column_stack([labels, rows])
        (data / name / "digits.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in table))
    root = compose_root / "sdk-v3"
    root.mkdir()
    done = sdk_v3.run(
        "sdk_v3_train.py",
        image=image,
        root=root,
        hyperparameters={"feature_dim": 64, "k": K, "sample_size": 2000, "predictor_type": "classifier"},
        channels={name: {"folder": data / name, "content_type": "text/csv;label_size=1"} for name in ("train", "test")},
    )
    return root, done.log


def test_the_log_has_the_accuracy(trained, digits):
    _, log = trained
    score = re.search(r"#quality_metric: host=algo-1, test accuracy <score>=(\S+)", log)
    assert float(score[1]) == pytest.approx(digits.model(K).score(digits.queries, digits.test_labels))


def test_the_container_got_no_command(trained):
    root, _ = trained
    compose = (root / "docker-compose.yaml").read_text()
    assert "command" not in compose
    assert "entrypoint" not in compose


def test_the_model_answers(trained, serving, digits, assert_neighbours, tmp_path):
    root, _ = trained
    (tmp_path / "model").mkdir()
    with tarfile.open(root / "compressed_artifacts/model.tar.gz") as archive:
        archive.extractall(tmp_path / "model", filter="data")
    body = json.dumps({"instances": [{"features": row} for row in digits.test_rows.tolist()]})
    headers = {"Content-Type": "application/json", "Accept": "application/json; verbose=true"}
    with serving(tmp_path) as port:
        response = requests.post(f"http://127.0.0.1:{port}/invocations", body, headers=headers, timeout=60)
    assert_neighbours(response.json()["predictions"], digits.model(K), digits.train_labels, digits.queries)
