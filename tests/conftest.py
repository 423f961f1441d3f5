"""What the contract and the integration tests share: data, jobs on disk, and values derived apart from the code."""

import json
import struct
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.datasets import load_digits

MAGIC = 0xCED7230A


@dataclass(frozen=True)
class Table:
    """Rows that are exact in float32, and their labels."""

    train_rows: np.ndarray
    train_labels: np.ndarray
    test_rows: np.ndarray
    test_labels: np.ndarray


@pytest.fixture(scope="session")
def digits():
    """Scikit-learn's digits, divided by 10 so that squared distances are not whole numbers."""
    rows, labels = load_digits(return_X_y=True)
    rows = (rows / 10).astype(np.float32)
    return Table(rows[:1000], labels[:1000], rows[1000:], labels[1000:])


def _csv(rows, labels=None):
    columns = rows if labels is None else np.column_stack([labels.astype(np.float64), rows.astype(np.float64)])
    # 9 significant digits tell every float32 number from its neighbours, 17 every float64 number.
    digits = 9 if columns.dtype == np.float32 else 17
    return "".join(",".join(f"{value:.{digits}g}" for value in row) + "\n" for row in columns).encode()


@pytest.fixture(scope="session")
def csv():
    """Writes (n, d) rows, behind their labels if there are any, as CSV."""
    return _csv


@pytest.fixture(scope="session")
def write_job(tmp_path_factory):
    """Lays out a training job as SageMaker does below /opt/ml; a hyperparameter that is None is left out."""

    def write(files, *, content_type="text/csv;label_size=1", channels=("train", "test"), **hyperparameters):
        base = tmp_path_factory.mktemp("ml")
        given = {"k": "3", "predictor_type": "classifier", "sample_size": "100000"} | hyperparameters
        there = [name for name in channels if any(path.startswith(f"{name}/") for path in files)]
        channel = {"ContentType": content_type, "TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}
        documents = {
            "hyperparameters": {name: str(value) for name, value in given.items() if value is not None},
            "inputdataconfig": dict.fromkeys(there, channel),
            "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"},
        }
        (base / "input" / "config").mkdir(parents=True)
        for name, document in documents.items():
            (base / "input" / "config" / f"{name}.json").write_text(json.dumps(document))
        for name, content in files.items():
            path = base / "input" / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return base

    return write


@dataclass(frozen=True)
class Expected:
    """What n queries are to be answered; lists are in the order of an answer, distances ascending."""

    predicted: np.ndarray
    distances: np.ndarray
    labels: np.ndarray


@pytest.fixture(scope="session")
def expect():
    """Computes answers with numpy: float64 arithmetic, rounded once to float32, ties to the lower row."""

    def expect_(rows, labels, queries, *, k, metric="L2", predictor="classifier"):
        wide, asked = rows.astype(np.float64), queries.astype(np.float64)
        if metric == "L2":
            values = np.array([((wide - query) ** 2).sum(axis=1) for query in asked])
        else:
            values = np.array([(wide * query).sum(axis=1) for query in asked])
        if metric == "COSINE":
            values /= np.linalg.norm(wide, axis=1) * np.linalg.norm(asked, axis=1)[:, np.newaxis]
        values = values.astype(np.float32)
        nearest = np.argsort(values if metric == "L2" else -values, axis=1, kind="stable")[:, :k]
        chosen = labels[nearest]
        predicted = chosen.mean(axis=1) if predictor == "regressor" else np.array([_vote(row) for row in chosen])
        order = slice(None) if metric == "L2" else slice(None, None, -1)
        return Expected(predicted, np.take_along_axis(values, nearest, axis=1)[:, order], chosen[:, order])

    return expect_


def _vote(labels):
    found, votes = np.unique(labels, return_counts=True)
    return found[np.argmax(votes)]


class RecordIO:
    """RecordIO frames of `aialgs.data.Record` messages, written and read by hand from the descriptions of both."""

    FIELDS = {"float32": 2, "float64": 3, "int32": 7}  # noqa: RUF012 (a table that no one changes)

    @staticmethod
    def frame(payload, flag=0):
        return struct.pack("<II", MAGIC, flag << 29 | len(payload)) + payload + bytes(-len(payload) % 4)

    @staticmethod
    def varint(number):
        out, number = bytearray(), number % (1 << 64)
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        return bytes([*out, number])

    @classmethod
    def field(cls, number, payload):
        return cls.varint(number << 3 | 2) + cls.varint(len(payload)) + payload

    @classmethod
    def tensor(cls, values, kind="float32", keys=(), shape=()):
        """A `Value` that holds a tensor; empty fields are left out, as protobuf leaves them out."""
        if kind == "int32":
            packed = b"".join(map(cls.varint, values))
        else:
            packed = struct.pack(f"<{len(values)}{'f' if kind == 'float32' else 'd'}", *values)
        parts = [packed, b"".join(map(cls.varint, keys)), b"".join(map(cls.varint, shape))]
        body = b"".join(cls.field(number, part) for number, part in enumerate(parts, 1) if part)
        return cls.field(cls.FIELDS[kind], body)

    @classmethod
    def record(cls, features=None, label=None, key=b"values"):
        entries = ((1, features), (2, label))
        return b"".join(
            cls.field(number, cls.field(1, key) + cls.field(2, value)) for number, value in entries if value is not None
        )

    @classmethod
    def rows(cls, rows, labels=None, kind="float32", label_kind="float32"):
        """Frames for (n, d) rows and their labels."""
        tensors = [None] * len(rows) if labels is None else [cls.tensor([value], label_kind) for value in labels]
        return b"".join(
            cls.frame(cls.record(cls.tensor(row, kind), label)) for row, label in zip(rows, tensors, strict=True)
        )

    @classmethod
    def read(cls, body):
        """One dict a record: a name in its label map to the tensor's kind and values. A frame has to be whole."""
        records = []
        while body:
            magic, length = struct.unpack_from("<II", body)
            assert magic == MAGIC
            assert length >> 29 == 0, "SageMaker's SDK reads the part flag as a part of the length"
            records.append(cls._labels(body[8 : 8 + length]))
            body = body[8 + length + -length % 4 :]
        return records

    @classmethod
    def _labels(cls, payload):
        labels = {}
        for number, entry in cls._fields(payload):
            assert number == 2, "an answer has labels and no features"
            named = dict(cls._fields(entry))
            ((kind, tensor),) = cls._fields(named[2])
            packed = dict(cls._fields(tensor))[1]
            name, code, size = {2: ("float32", "f", 4), 3: ("float64", "d", 8)}[kind]
            labels[named[1].decode()] = (name, list(struct.unpack(f"<{len(packed) // size}{code}", packed)))
        return labels

    @classmethod
    def _fields(cls, message):
        at = 0
        while at < len(message):
            tag, at = cls._read_varint(message, at)
            assert tag & 7 == 2, "every field of a Record is length-delimited"
            length, at = cls._read_varint(message, at)
            yield tag >> 3, message[at : at + length]
            at += length

    @staticmethod
    def _read_varint(message, at):
        number = shift = 0
        while True:
            number |= (message[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if not message[at - 1] & 0x80:
                return number, at


@pytest.fixture(scope="session")
def recordio():
    return RecordIO
