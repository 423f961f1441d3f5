import io
import os

import numpy as np
import pytest

from knn_container import cpu
from knn_container.batch import dense
from knn_container.errors import UserError
from knn_container.formats import recordio
from knn_container.training.channels import open_channel
from knn_container.training.readahead import ReadAhead

CSV = {"ContentType": "text/csv;label_size=1"}
RECORDIO = recordio.encode(np.array([[1.5, 2]], np.float32), np.array([7], np.float32))


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def paths_of(channel):
    return [file.path for file in channel.files()]


def rows_of(channel, path, batch_size=100, width=None):
    return [
        (label, *row)
        for batch in channel.batches(path, batch_size, width)
        for label, row in zip(batch.labels.tolist(), dense(batch.features).tolist(), strict=True)
    ]


def test_files_are_found_at_any_depth_and_come_in_bytewise_order(tmp_path):
    # By bytes: "-" < "." < "/" < digits < capitals < "_" < small letters < what is not ASCII.
    names = ["B", "a-b", "a.csv", "a/b", "a0", "a_b", "b", "z/y/x", "é", "10", "9"]
    expected = ["10", "9", "B", "a-b", "a.csv", "a/b", "a0", "a_b", "b", "z/y/x", "é"]
    write(tmp_path, dict.fromkeys(names, b""))
    assert paths_of(open_channel("train", {}, tmp_path)) == expected


def test_names_that_are_not_utf8_come_last_and_can_be_read(tmp_path):
    write(tmp_path, {"a": b"1,2\n", "é": b"1,2\n"})
    with open(os.fsencode(tmp_path) + b"/\xff.csv", "wb") as file:  # noqa: PTH123
        file.write(b"3,4\n")
    channel = open_channel("train", CSV, tmp_path)
    assert [os.fsencode(name) for name in paths_of(channel)] == [b"a", "é".encode(), b"\xff.csv"]
    assert rows_of(channel, paths_of(channel)[-1]) == [(3, 4)]


def test_hidden_files_and_those_after_an_underscore_are_left_out(tmp_path):
    write(tmp_path, dict.fromkeys([".amazon.manifest", "_SUCCESS", ".d/x", "_d/x", "d/.x", "d/_x", "d/x_.y"], b""))
    assert paths_of(open_channel("train", {}, tmp_path)) == ["d/x_.y"]


def test_links_to_folders_are_followed(tmp_path):
    write(tmp_path / "real", {"x": b""})
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "link").symlink_to(tmp_path / "real")
    assert paths_of(open_channel("train", {}, tmp_path / "train")) == ["link/x"]


@pytest.mark.parametrize("config", [{}, {"ContentType": None}, {"ContentType": ""}])
@pytest.mark.parametrize("mode", [{}, {"TrainingInputMode": "File"}])
def test_without_a_content_type_files_hold_recordio(tmp_path, config, mode):
    write(tmp_path, {"x": RECORDIO})
    assert rows_of(open_channel("train", config | mode, tmp_path), "x") == [(7, 1.5, 2)]


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/x-recordio-protobuf", RECORDIO),
        ("APPLICATION/X-RecordIO-Protobuf; x=y", RECORDIO),
        ("text/csv", b"7,1.5,2\n"),
        ("text/csv;label_size=1", b"7,1.5,2\n"),
        ("Text/CSV ; Label_Size=1 ; charset=utf8", b"7,1.5,2\n"),
        ("text/csv;charset=utf-16", "7,1.5,2\n".encode("utf-16")),
    ],
)
def test_files_are_read_as_their_content_type_says(tmp_path, content_type, content):
    write(tmp_path, {"x": content})
    assert rows_of(open_channel("train", {"ContentType": content_type}, tmp_path), "x") == [(7, 1.5, 2)]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"ContentType": "application/json"}, ["'test'", "application/json"]),
        ({"ContentType": "text/csv;label_size=0"}, ["'test'", "label_size=0"]),
        ({"ContentType": "text/csv;label_size=2"}, ["'test'", "label_size=2"]),
        ({"ContentType": "text/csv;label_size"}, ["'test'", "label_size="]),
        ({"TrainingInputMode": "Streaming"}, ["'test'", "Streaming"]),
    ],
)
def test_what_training_does_not_read_is_refused_with_the_channels_name(tmp_path, config, words):
    with pytest.raises(UserError) as caught:
        open_channel("test", config, tmp_path)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_files_are_read_in_batches_of_the_size_asked_for(tmp_path, batch_size):
    write(tmp_path, {"d/x": b"".join(b"%d,%d\n" % (i, i * i) for i in range(5))})
    channel = open_channel("train", CSV, tmp_path)
    assert rows_of(channel, "d/x", batch_size) == [(i, i * i) for i in range(5)]
    assert max(len(batch) for batch in channel.batches("d/x", batch_size, None)) == batch_size


@pytest.mark.parametrize(
    ("config", "content", "words"),
    [
        (CSV, b"1,2\n1,x\n", "row 2: column 2"),
        (CSV, b"1,2\n1,2,3\n", "row 2: expected 1 features, 2 came"),
        ({}, RECORDIO + RECORDIO[:-5], "row 2: the data end"),
        ({}, b"1,2\n1,2\n", "row 1: expected a RecordIO frame"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_its_file_and_channel(tmp_path, config, content, words):
    write(tmp_path, {"d/x": content})
    with pytest.raises(UserError) as caught:
        rows_of(open_channel("train", config, tmp_path), "d/x")
    assert str(caught.value).startswith("Channel 'train', file 'd/x', ")
    assert words in str(caught.value)


def test_the_width_asked_for_holds_for_the_first_row_too(tmp_path):
    write(tmp_path, {"x": b"1,2\n"})
    with pytest.raises(UserError, match="row 1: expected 3 features, 1 came"):
        rows_of(open_channel("train", CSV, tmp_path), "x", width=3)


@pytest.mark.parametrize("config", [{}, CSV])
def test_an_empty_file_has_no_rows(tmp_path, config):
    write(tmp_path, {"x": b""})
    assert rows_of(open_channel("train", config, tmp_path), "x") == []


def test_a_files_rows_are_those_of_its_format(tmp_path):
    write(tmp_path, {"x": RECORDIO * 3})
    (expected,) = recordio.read_batches(io.BytesIO(RECORDIO * 3), 10, None)
    (batch,) = open_channel("train", {}, tmp_path).batches("x", 10, None)
    np.testing.assert_array_equal(dense(batch.features), dense(expected.features))


@pytest.mark.parametrize(("cpus", "ahead"), [(1, False), (2, True)])
def test_files_are_read_ahead_where_another_cpu_can_do_it(tmp_path, monkeypatch, cpus, ahead):
    monkeypatch.setattr(cpu, "budget", lambda: cpus)
    (tmp_path / "rows").write_bytes(recordio.encode(np.ones((1, 2), np.float32)))
    with open_channel("train", {}, tmp_path).source.open("rows") as stream:
        assert isinstance(getattr(stream, "raw", None), ReadAhead) is ahead
        assert stream.read() == (tmp_path / "rows").read_bytes()
