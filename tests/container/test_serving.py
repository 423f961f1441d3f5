import json
import shutil
import time

import pytest

pytestmark = [pytest.mark.container, pytest.mark.timeout(1200)]


def test_predicts(start, trained, digits):
    server = start(f"--volume={trained}:/opt/ml")
    server.wait_until_ready()

    from_csv = server.invoke(digits.queries_csv, "text/csv")
    assert from_csv.status_code == 200, from_csv.text
    digits.assert_predicted(from_csv.text)

    instances = {"instances": [{"features": it} for it in digits.queries]}
    from_json = server.invoke(json.dumps(instances), "application/json")
    assert from_json.status_code == 200, from_json.text
    digits.assert_predicted(from_json.text)


def test_serves_the_archive(start, trained, tmp_path, digits):
    shutil.copy(trained / "output/model.tar.gz", tmp_path)
    server = start(f"--volume={tmp_path}:/opt/ml/model")
    server.wait_until_ready()
    digits.assert_predicted(server.invoke(digits.queries_csv, "text/csv").text)


@pytest.mark.parametrize("files", ["model/*", "output/model.tar.gz"])
def test_serves_under_restrictions(start, trained, tmp_path, digits, restrictions, files):
    folder = tmp_path / "model"  # tmp_path itself is for its owner alone
    folder.mkdir()
    for path in trained.glob(files):
        shutil.copy(path, folder)
    server = start(f"--volume={folder}:/opt/ml/model:ro", *restrictions)
    server.wait_until_ready(ping=lambda: server.ask_from_inside("/ping")[0])
    status, body = server.ask_from_inside("/invocations", "text/csv", digits.queries_csv)
    assert status == 200, body
    digits.assert_predicted(body)


def test_listens_where_it_is_told(start, trained):
    server = start(f"--volume={trained}:/opt/ml", "--env=SAGEMAKER_BIND_TO_PORT=9123", port=9123)
    server.wait_until_ready()


def test_stops_when_told(start, trained):
    server = start(f"--volume={trained}:/opt/ml")
    server.wait_until_ready()
    assert server.stop() < 30
    assert server.state()["ExitCode"] == 0, server.logs()


def test_is_never_ready_with_a_damaged_model(start, trained, tmp_path):
    shutil.copytree(trained / "model", tmp_path, dirs_exist_ok=True)
    largest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    server = start(f"--volume={tmp_path}:/opt/ml/model")
    deadline = time.monotonic() + 60
    while largest.name not in server.logs() and time.monotonic() < deadline:
        assert server.ping() != 200
        time.sleep(0.1)
    assert largest.name in server.logs()
    assert server.ping() != 200
