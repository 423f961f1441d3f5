"""MXNet's RecordIO writer and reader, the reference of the framing."""

import struct
from io import BytesIO

import numpy as np
import pytest
import requests

from knn_container.formats import recordio

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MAGIC = bytes.fromhex("0a23d7ce")
(MAGIC_NUMBER,) = struct.unpack("<f", MAGIC)
WIDTH = 8


@pytest.fixture(scope="module")
def rows():
    """Rows whose bytes are the magic in every place and number that there is."""
    rows = np.random.default_rng(4).normal(size=(40, WIDTH)).astype(np.float32)
    for column in range(WIDTH):
        rows[column, column] = MAGIC_NUMBER  # in each place
        rows[WIDTH + column, : column + 1] = MAGIC_NUMBER  # many in sequence, at last nothing else
    rows[2 * WIDTH, ::2] = MAGIC_NUMBER
    return rows


@pytest.fixture(scope="module")
def payloads(rows):
    """The records of the rows; labels are their numbers."""
    frames = recordio.encode(rows, np.arange(len(rows), dtype=np.float32))
    return list(recordio.read_payloads(BytesIO(frames)))


@pytest.fixture(scope="module")
def written(mxnet, tmp_path_factory, payloads):
    """The records, written by MXNet."""
    path = tmp_path_factory.mktemp("mxnet") / "rows.rec"
    mxnet.run("mxnet_recordio.py", path=path, payloads=[payload.hex() for payload in payloads])
    return path.read_bytes()


def parts(stream):
    """The part flags of the frames."""
    flags = []
    while stream:
        magic, length = struct.unpack_from("<4sI", stream)
        assert magic == MAGIC
        flags.append(length >> 29)
        length &= (1 << 29) - 1
        stream = stream[8 + length + -length % 4 :]
    return flags


def test_mxnet_cuts_records_at_the_magic(written, payloads):
    aligned = sum(payload[at : at + 4] == MAGIC for payload in payloads for at in range(0, len(payload) - 3, 4))
    flags = parts(written)
    assert set(flags) == {0, 1, 2, 3}
    assert len(flags) == len(payloads) + aligned


def test_reads_what_mxnet_writes(written, payloads):
    assert list(recordio.read_payloads(BytesIO(written))) == payloads


def test_reads_the_rows_that_mxnet_wrote(written, rows):
    batches = list(recordio.read_batches(BytesIO(written), 16, None))
    assert np.array_equal(np.concatenate([batch.features for batch in batches]), rows)
    assert np.array_equal(np.concatenate([batch.labels for batch in batches]), np.arange(len(rows)))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        MAGIC,
        MAGIC * 3,
        b"abcd" + MAGIC,
        MAGIC + b"abcd",
        b"a" + MAGIC + b"bcd",  # not where a record is cut
        b"abcd" + MAGIC + b"e",
        MAGIC[:3],
    ],
    ids=bytes.hex,
)
def test_reads_any_bytes_that_mxnet_writes(mxnet, tmp_path, payload):
    path = tmp_path / "bytes.rec"
    mxnet.run("mxnet_recordio.py", path=path, payloads=[payload.hex(), b"next".hex()])
    assert list(recordio.read_payloads(BytesIO(path.read_bytes()))) == [payload, b"next"]


def test_mxnet_reads_what_this_writes(mxnet, tmp_path, payloads):
    path = tmp_path / "ours.rec"
    path.write_bytes(b"".join(recordio.frame(payload) for payload in payloads))
    assert set(parts(path.read_bytes())) == {0}
    read = mxnet.run("mxnet_recordio.py", path=path).result
    assert [bytes.fromhex(payload) for payload in read] == payloads


@pytest.fixture
def answer(written, write_job, train, serving):
    """Trains on the file of MXNet, sends it as a request too, and gives the answer."""
    base = write_job({"train/rows.rec": written}, content_type=None, k=1)
    train(base)
    kind = "application/x-recordio-protobuf"
    with serving(base) as port:
        url = f"http://127.0.0.1:{port}/invocations"
        response = requests.post(url, written, headers={"Content-Type": kind, "Accept": kind}, timeout=60)
    assert response.ok, response.text
    return response.content


def test_mxnet_reads_the_answer_in_which_each_row_finds_itself(mxnet, answer, rows, tmp_path):
    path = tmp_path / "answer.rec"
    path.write_bytes(answer)
    read = mxnet.run("mxnet_recordio.py", path=path).result
    found = [recordio.Record.FromString(bytes.fromhex(it)).label["predicted_label"] for it in read]
    assert [list(value.float32_tensor.values) for value in found] == [[number] for number in range(len(rows))]
