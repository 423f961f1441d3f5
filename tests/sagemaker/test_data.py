"""Files as channels: what lies in the bucket afterwards."""

import gzip
import io
import tracemalloc

import numpy as np
import pytest

from knn_container.formats import recordio

BUCKET = "sagemaker-us-west-2-123456789012"
CHANNEL = "knn-container/knn/data/train/"


@pytest.fixture
def stored(aws):
    """Gives an object's bytes and type."""

    def stored_(key):
        answer = aws("s3").get_object(Bucket=BUCKET, Key=key)
        return answer["Body"].read(), answer["ContentType"]

    return stored_


def batches(body):
    (batch,) = recordio.read_batches(io.BytesIO(body), 5000, None)
    return batch


@pytest.mark.parametrize("options", [("rows.npy", "--labels", "labels.npy"), ("table.npy",)])
def test_an_array_becomes_records(ok, folder, stored, options):
    given = [folder / it if it.endswith(".npy") else it for it in options]
    done = ok("upload", *given, "--channel", "train")
    name = options[0].replace(".npy", ".pbr")
    assert done.json == {
        "uri": f"s3://{BUCKET}/{CHANNEL}{name}",
        "content_type": "application/x-recordio-protobuf",
        "rows": 3,
    }
    body, _ = stored(CHANNEL + name)
    batch = batches(body)
    assert batch.features.tolist() == [[0.5, 1.5], [2.5, 3.5], [4.5, 5.5]]
    assert batch.labels.tolist() == [0, 1, 1]


def test_large_whole_labels_stay_exact(ok, tmp_path, stored):
    np.save(tmp_path / "rows.npy", np.ones((2, 3)))
    np.save(tmp_path / "labels.npy", np.array([16_777_217, 9_007_199_254_740_991]))
    ok("upload", tmp_path / "rows.npy", "--labels", tmp_path / "labels.npy", "--channel", "train")
    assert batches(stored(CHANNEL + "rows.pbr")[0]).labels.tolist() == [16_777_217, 9_007_199_254_740_991]


def test_csv_is_stored_as_it_is(ok, folder, stored):
    done = ok("upload", folder / "table.csv", "--channel", "train")
    assert done.json["content_type"] == "text/csv;label_size=1"
    assert stored(CHANNEL + "table.csv") == ((folder / "table.csv").read_bytes(), "text/csv;label_size=1")


def test_packed_csv_stays_packed(ok, tmp_path, stored):
    packed = gzip.compress(b"1,2\n3,4\n")
    (tmp_path / "a.csv.gz").write_bytes(packed)
    assert ok("upload", tmp_path / "a.csv.gz", "--channel", "train").json["rows"] == 2
    assert stored(CHANNEL + "a.csv.gz")[0] == packed


def test_recordio_is_stored_as_it_is(ok, tmp_path, stored):
    body = recordio.encode(np.ones((2, 3), np.float32), np.zeros(2, np.float32))
    (tmp_path / "a.recordio").write_bytes(body)
    ok("upload", tmp_path / "a.recordio", "--channel", "train")
    assert stored(CHANNEL + "a.pbr")[0] == body


@pytest.mark.parametrize(
    ("name", "content_type", "rows"),
    [
        ("rows.csv", "text/csv", 3),
        ("rows.jsonl", "application/jsonlines", 2),
        ("rows.npy", "application/x-recordio-protobuf", 3),
    ],
)
def test_a_batch_has_no_labels(ok, folder, name, content_type, rows):
    done = ok("upload", folder / name, "--channel", "batch", "--unlabelled")
    assert (done.json["content_type"], done.json["rows"]) == (content_type, rows)


def test_unlabelled_recordio_is_counted(ok, tmp_path):
    (tmp_path / "a.pbr").write_bytes(recordio.encode(np.ones((2, 3), np.float32)))
    assert ok("upload", tmp_path / "a.pbr", "--channel", "batch", "--unlabelled").json["rows"] == 2


def test_a_large_file_goes_in_parts(ok, tmp_path, stored, proxy):
    rows = np.ones((9_000, 1_001), np.float32)
    np.save(tmp_path / "rows.npy", rows)
    ok("upload", tmp_path / "rows.npy", "--channel", "train")
    body, _ = stored(CHANNEL + "rows.pbr")
    assert len(body) > 33 << 20
    assert proxy.seen.count("UploadPart") == 3
    count = sum(len(batch.labels) for batch in recordio.read_batches(io.BytesIO(body), 5000, 1_000))
    assert count == 9_000


def test_an_array_is_not_read_into_memory(ok, tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((8_000, 1_000), np.float32))  # 32 MB
    tracemalloc.start()
    try:
        ok("upload", tmp_path / "rows.npy", "--channel", "train", "--dry-run")
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_keys_of_kms_are_passed_on(ok, folder, calls):
    ok("upload", folder / "table.csv", "--channel", "train", "--kms-key", "key-1")
    (_, _, put) = calls[-1]
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", "key-1")


def test_a_bucket_that_is_not_there(run, proxy, folder):
    done = run("upload", folder / "table.csv", "--channel", "train", "--bucket", "nobodys")
    assert done.status == 1
    assert "Uploading table.csv" in done.err
    assert "NoSuchBucket" in done.err
