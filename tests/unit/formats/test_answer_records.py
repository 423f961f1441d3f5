"""Answers written as a table are the records that protobuf's writer makes."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knn_container.formats import answer_records, recordio
from knn_container.formats.framing import read_payloads
from knn_container.formats.record_pb2 import Record


@given(
    rows=st.integers(4, 8),
    sizes=st.dictionaries(st.text(max_size=200), st.sampled_from([0, 1, 2, 10, 14, 15, 31, 32, 600, 5000]), min_size=1),
    types=st.lists(st.sampled_from(["f4", "f8", "i8"]), min_size=1, max_size=3),
)
def test_tables_are_the_records_that_protobuf_makes(rows, sizes, types):
    rng = np.random.default_rng(0)
    columns = {}
    for number, (name, size) in enumerate(sizes.items()):
        numbers = (rng.random((rows, size)) * 1000).astype(types[number % len(types)])
        columns[name] = list(numbers if size else rng.random(rows).astype("f4"))  # arrays, or single numbers
    body = answer_records.encode(columns)
    payloads = list(read_payloads(io.BytesIO(body)))
    for row, payload in enumerate(payloads):
        expected = Record(label={name: recordio._value(column[row]) for name, column in columns.items()})
        assert Record.FromString(payload) == expected
        assert len(payload) == expected.ByteSize()
    assert len(payloads) == rows
    assert body == b"".join(map(recordio.frame, payloads))


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"ids": [["a"], ["b"]] * 4},
        {"distances": [np.ones(2), np.ones(3)] * 4},
        {"distances": [np.empty(0), np.empty(0)] * 4},
        {"predicted_label": []},
        {"predicted_label": [np.float64(1)]},
    ],
)
def test_other_answers_are_written_one_by_one(columns):
    assert answer_records.encode(columns) is None
    for payload in read_payloads(io.BytesIO(recordio.encode_answers(columns))):
        assert list(Record.FromString(payload).label) == list(columns)
