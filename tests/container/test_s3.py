"""The image with its data and its results in S3: 2 GB through a container that has 512 MB."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import s3_store

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(600)]

CSV, RECORDIO = "text/csv;label_size=1", "application/x-recordio-protobuf"
COLUMNS = 64
OBJECTS = 128
SIZE = 16_000_000  # of each, at least; the store reads all of an object for each range
SAMPLE = 20_000
LIMIT = 512 << 20

# Runs the job as a child of its own and then says how much memory was resident at the most, in KiB.
PEAK = """
import resource, subprocess, sys
status = subprocess.call(["knn-container", "train"])
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, flush=True)
sys.exit(status)
"""


@pytest.fixture(scope="module")
def store():
    with s3_store.store() as opened:
        yield opened


@pytest.fixture
def train_s3(store, train, tmp_path):
    """Trains in a container that reaches the store, which listens on this machine's loopback."""

    def train_s3_(channels, output, *options, **hyperparameters):
        folder = tmp_path / "ml"
        known = {"k": "5", "predictor_type": "classifier", "sample_size": str(SAMPLE)}
        config = {
            "hyperparameters": known | hyperparameters,
            "inputdataconfig": channels,
            "outputdataconfig": {"S3OutputPath": output},
        }
        for path in ("input/config", "model", "output"):
            (folder / path).mkdir(parents=True)
        for name, content in config.items():
            (folder / f"input/config/{name}.json").write_text(json.dumps(content))
        variables = s3_store.environment(store.endpoint, tmp_path)
        environment = [f"--env={name}={value}" for name, value in variables.items()]
        code, log = train(folder, "--network=host", *environment, *options, "--entrypoint=python", command=("-c", PEAK))
        return folder, code, log

    return train_s3_


def prefix(bucket, key, content_type=RECORDIO):
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{key}", "S3DistributionType": "FullyReplicated"}
    return {"ContentType": content_type, "TrainingInputMode": "File", "DataSource": {"S3DataSource": source}}


def frames(recordio):
    """RecordIO frames of SIZE bytes: one record many times over, with each row's numbers in the place of its own."""
    values = np.arange(1, COLUMNS + 1, dtype="<f4")
    frame = recordio.rows([values.tolist()], [2])
    table = np.tile(np.frombuffer(frame, np.uint8), (-(-SIZE // len(frame)), 1))
    start = frame.index(values.tobytes())
    rows = np.random.default_rng(0).normal(size=(len(table), COLUMNS)).astype("<f4")
    table[:, start : start + values.nbytes] = rows.view(np.uint8)
    return table.tobytes(), len(table)


def lines():
    """CSV of SIZE bytes."""
    rows = np.random.default_rng(0).integers(0, 10, (1000, COLUMNS + 1))
    text = "".join(",".join(f"{value}.{value}" for value in row) + "\n" for row in rows).encode()
    times = -(-SIZE // len(text))
    return text * times, 1000 * times


@pytest.fixture(params=[RECORDIO, CSV])
def data(request, store, recordio):
    """A bucket with 2 GB below `train/`, their content type, and the number of rows."""
    content, rows = frames(recordio) if request.param == RECORDIO else lines()
    bucket = store.bucket({"train/000": content})
    source = {"Bucket": bucket, "Key": "train/000"}
    with ThreadPoolExecutor(2) as threads:
        for number in range(1, OBJECTS):
            key = f"train/{number:03}"
            threads.submit(store.client.copy_object, Bucket=bucket, Key=key, CopySource=source)
    assert len(store.keys(bucket)) == OBJECTS
    yield bucket, request.param, OBJECTS * rows
    for key in store.keys(bucket):
        store.client.delete_object(Bucket=bucket, Key=key)


def test_2_gb_train_in_a_container_of_512_mb(store, train_s3, data):
    bucket, content_type, rows = data
    channels = {"train": prefix(bucket, "train/", content_type), "test": prefix(bucket, "train/000", content_type)}
    limits = (f"--memory={LIMIT}", f"--memory-swap={LIMIT}")
    folder, code, log = train_s3(channels, f"s3://{bucket}/results", *limits)
    assert code == 0, log
    manifest = json.loads((folder / "model" / "manifest.json").read_text())
    assert (manifest["rows_read"], manifest["rows"]) == (rows, SAMPLE)
    peak = 1024 * int(re.search(r"^peak (\d+)$", log, re.MULTILINE)[1])
    print(f"{content_type}: {peak / 1e6:.0f} MB resident at the most")
    assert peak < LIMIT
    for name in ("model.tar.gz", "output.tar.gz"):
        assert store.get(bucket, f"results/output/{name}") == (folder / "output" / name).read_bytes()
