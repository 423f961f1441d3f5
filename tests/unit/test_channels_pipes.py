"""Pipes, wrapped objects, gzip and read-only folders."""

import gzip
import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from knn_container.batch import dense
from knn_container.errors import UserError
from knn_container.formats import recordio
from knn_container.training.channels import open_channel

CSV_TYPE = "text/csv;label_size=1"
ROWS = np.array([[0, 1.5], [1, -2], [2, 3], [3, 0]], np.float32)
LABELS = np.array([7, 8, 7, 9], np.float32)


def as_csv(rows, labels):
    return b"".join(b"%g,%g,%g\n" % (label, *row) for row, label in zip(rows, labels, strict=True))


FORMATS = {CSV_TYPE: as_csv, "application/x-recordio-protobuf": recordio.encode}
RECORDS = recordio.encode(ROWS, LABELS)
EXPECTED = [(7, 0, 1.5), (8, 1, -2), (7, 2, 3), (9, 3, 0)]


def rows_of(channel, batch_size=3):
    return [
        (label, *row)
        for file in channel.files()
        for batch in channel.batches(file.path, batch_size, None)
        for label, row in zip(batch.labels.tolist(), dense(batch.features).tolist(), strict=True)
    ]


@pytest.fixture
def send():
    """Makes a pipe after some seconds, as the platform does, and writes objects into it, one after another."""
    with ThreadPoolExecutor() as pool:

        def send_(pipe, objects, delay=0.0):
            def write():
                time.sleep(delay)
                os.mkfifo(pipe)
                with pipe.open("wb", buffering=0) as stream:
                    for content in objects:
                        stream.write(content)
                        time.sleep(0.01)

            return pool.submit(write)

        yield send_


def pipe_channel(folder, content_type, **config):
    config |= {"ContentType": content_type, "TrainingInputMode": "Pipe"}
    return open_channel("train", config, folder / "train")


@pytest.mark.parametrize("delay", [0, 0.4])
@pytest.mark.parametrize("content_type", FORMATS)
def test_a_pipe_is_waited_for_and_its_objects_are_read_as_one_stream(tmp_path, send, content_type, delay):
    encode = FORMATS[content_type]
    objects = [encode(ROWS[:1], LABELS[:1]), encode(ROWS[1:3], LABELS[1:3]), encode(ROWS[3:], LABELS[3:])]
    writer = send(tmp_path / "train_0", objects, delay)
    channel = pipe_channel(tmp_path, content_type)
    assert [file.path for file in channel.files()] == ["train_0"]
    assert rows_of(channel) == EXPECTED
    writer.result()


def test_rows_are_read_from_a_pipe_while_more_are_written(tmp_path, send):
    pieces = [RECORDS[:11], RECORDS[11:50], RECORDS[50:]]
    writer = send(tmp_path / "train_0", pieces)
    assert rows_of(pipe_channel(tmp_path, "application/x-recordio-protobuf"), batch_size=1) == EXPECTED
    writer.result()


def test_only_the_pipe_of_the_first_epoch_is_opened(tmp_path, send):
    os.mkfifo(tmp_path / "train_1")
    writer = send(tmp_path / "train_0", [as_csv(ROWS, LABELS)])
    assert rows_of(pipe_channel(tmp_path, CSV_TYPE)) == EXPECTED
    writer.result()


def test_a_pipe_that_is_closed_without_a_byte_has_no_rows(tmp_path, send):
    writer = send(tmp_path / "train_0", [])
    assert rows_of(pipe_channel(tmp_path, CSV_TYPE)) == []
    writer.result()


def test_a_reader_that_stops_early_closes_the_pipe(tmp_path):
    os.mkfifo(tmp_path / "train_0")
    broken = threading.Event()

    def write():
        with (tmp_path / "train_0").open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(b"1,2\n" * 1000)
            except BrokenPipeError:
                broken.set()

    writer = threading.Thread(target=write)
    writer.start()
    batches = pipe_channel(tmp_path, CSV_TYPE).batches("train_0", 10, None)
    assert len(next(batches)) == 10
    batches.close()
    assert broken.wait(10)
    writer.join()


@pytest.mark.parametrize("mode", ["File", "Pipe"])
@pytest.mark.parametrize("content_type", FORMATS)
def test_wrapped_objects_are_read_one_by_one(tmp_path, send, content_type, mode):
    encode = FORMATS[content_type]
    # No newline at the end of the first: joined as a stream, its last line would run into the next.
    objects = [encode(ROWS[:3], LABELS[:3]), encode(ROWS[3:], LABELS[3:])]
    if content_type == CSV_TYPE:
        objects[0] = objects[0].removesuffix(b"\n")
    wrapped = b"".join(recordio.frame(content) for content in objects)
    if mode == "Pipe":
        writer = send(tmp_path / "train_0", [wrapped])
        channel = pipe_channel(tmp_path, content_type, RecordWrapperType="RecordIO")
        assert rows_of(channel, 2) == EXPECTED
        writer.result()
    else:
        (tmp_path / "rows").write_bytes(wrapped)
        channel = open_channel("train", {"ContentType": content_type, "RecordWrapperType": "RecordIO"}, tmp_path)
        assert rows_of(channel, 2) == EXPECTED


@pytest.mark.parametrize("wrapper", ["None", None])
def test_without_a_wrapper_the_files_are_the_objects(tmp_path, wrapper):
    (tmp_path / "rows").write_bytes(as_csv(ROWS, LABELS))
    channel = open_channel("train", {"ContentType": CSV_TYPE, "RecordWrapperType": wrapper}, tmp_path)
    assert rows_of(channel) == EXPECTED


def test_an_error_in_a_wrapped_object_says_in_which(tmp_path):
    wrapped = recordio.frame(b"1,2\n") + recordio.frame(b"1,2\n1,x\n")
    (tmp_path / "rows").write_bytes(wrapped)
    channel = open_channel("train", {"ContentType": CSV_TYPE, "RecordWrapperType": "RecordIO"}, tmp_path)
    with pytest.raises(UserError, match=r"file 'rows', in the wrapped file 2, row 2: column 2 is 'x'"):
        rows_of(channel)


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows"])
@pytest.mark.parametrize("content_type", FORMATS)
def test_a_packed_file_is_unpacked_whatever_its_name(tmp_path, content_type, name):
    encode = FORMATS[content_type]
    # Two members, as `cat a.gz b.gz` makes them.
    packed = gzip.compress(encode(ROWS[:2], LABELS[:2])) + gzip.compress(encode(ROWS[2:], LABELS[2:]))
    (tmp_path / name).write_bytes(packed)
    assert rows_of(open_channel("train", {"ContentType": content_type}, tmp_path)) == EXPECTED


@pytest.mark.parametrize("content_type", FORMATS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:-4],
        lambda packed: packed[:5],
        lambda packed: packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:],
        lambda packed: packed[:30] + bytes(20) + packed[50:],
        lambda packed: packed + b"no gzip",
    ],
    ids=["half", "no length", "header alone", "checksum", "zeros inside", "more behind"],
)
def test_a_damaged_packed_file_is_the_users_error_and_is_named(tmp_path, content_type, damage):
    rows = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    packed = gzip.compress(FORMATS[content_type](rows, np.ones(200, np.float32)))
    (tmp_path / "rows.gz").write_bytes(damage(packed))
    with pytest.raises(UserError, match=r"Channel 'train', file 'rows\.gz'"):
        rows_of(open_channel("train", {"ContentType": content_type}, tmp_path))


@pytest.mark.parametrize("mode", ["File", "FastFile"])
@pytest.mark.parametrize("content_type", FORMATS)
def test_a_folder_that_cannot_be_written_is_read(tmp_path, content_type, mode):
    folder = tmp_path / "train"
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "rows").write_bytes(FORMATS[content_type](ROWS, LABELS))
    before = [(path, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]]
    (folder / "part" / "rows").chmod(0o444)
    (folder / "part").chmod(0o555)
    folder.chmod(0o555)
    channel = open_channel("train", {"ContentType": content_type, "TrainingInputMode": mode}, folder)
    assert rows_of(channel) == EXPECTED
    assert [(path, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]] == before


@pytest.mark.parametrize("label_size", ["0", "2", "-1", "x", ""])
def test_another_number_of_labels_than_one_is_refused(tmp_path, label_size):
    with pytest.raises(UserError, match=f"'train': expected label_size=1, label_size={label_size} came") as error:
        open_channel("train", {"ContentType": f"text/csv; label_size={label_size}"}, tmp_path)
    assert "a row has one label" in str(error.value)


@pytest.mark.parametrize("mode", ["pipe", "Augmented", 3])
def test_another_input_mode_is_refused(tmp_path, mode):
    with pytest.raises(UserError, match=f"expected the input mode File, FastFile or Pipe, {mode!r} came"):
        open_channel("train", {"TrainingInputMode": mode}, tmp_path)


def test_names_of_records_are_kept_and_empty_ones_are_none(tmp_path):
    records = [recordio.Record.FromString(payload) for payload in recordio.read_payloads(io.BytesIO(RECORDS))]
    records[1].uid = "row-é"
    framed = b"".join(recordio.frame(record.SerializeToString()) for record in records)
    (tmp_path / "rows").write_bytes(framed)
    (batch,) = open_channel("train", {}, tmp_path).batches("rows", 10, None)
    assert batch.uids == ["", "row-é", "", ""]
