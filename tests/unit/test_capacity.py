"""Whether a sample fits into memory."""

import re

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knn_container import index
from knn_container.errors import UserError
from knn_container.formats import mediatype
from knn_container.index import INDEX_TYPES, IndexSpec
from knn_container.metric import Metric
from knn_container.training.capacity import Capacity, certain_rows, most_rows
from knn_container.training.channels import open_channel

SPECS = [
    IndexSpec(kind, metric, nlist=1, pq_m=4)
    for kind in INDEX_TYPES
    for metric in Metric
    if kind != index.IVF_PQ or metric is Metric.L2
]
FLAT = IndexSpec(index.FLAT, Metric.L2)
FLAT_COSINE = IndexSpec(index.FLAT, Metric.COSINE)


def names(spec):
    return f"{spec.index_type}-{spec.metric.value}" if spec else "no index"


@pytest.mark.parametrize("spec", [*SPECS, None], ids=names)
@given(rows=st.integers(0, 10**9), columns=st.integers(1, 20_000))
def test_a_job_that_fits_by_what_was_measured_is_not_refused(spec, rows, columns):
    # README, Memory: a row takes 4 bytes a column and 80 more; twice that and 130 MB, three times for flat cosines.
    sample = rows * (4 * columns + 80)
    flat_cosine = spec and (spec.index_type, spec.metric) == (index.FLAT, Metric.COSINE)
    times = 3 if flat_cosine else 2 if spec else 1
    edges = 64 * 4 * rows if spec and spec.index_type == index.HNSW else 0  # of a node, on the lowest level
    Capacity(times * sample + edges + 130_000_000, spec, columns).check(rows)


@pytest.mark.parametrize("spec", SPECS, ids=names)
@pytest.mark.parametrize("columns", [4, 64])
def test_an_index_takes_at_least_what_is_counted_for_it(spec, columns):
    rows = np.random.default_rng(0).normal(size=(2000, columns)).astype(np.float32)
    built = index.build(spec, len(rows), columns, lambda size: iter([rows]))
    assert len(rows) * index.bytes_per_row(spec, columns) <= faiss.serialize_index(built).nbytes


def refused(capacity, rows):
    with pytest.raises(UserError) as caught:
        capacity.check(rows)
    return str(caught.value)


@pytest.mark.parametrize(
    ("memory", "spec", "takes", "what", "has", "room"),
    [
        # 480 bytes a row in the sample, 400 in the index, 60 MiB for the program; and a margin of two fifths.
        (940_000_000, FLAT, 943, "with their index", 940, 598_012),
        # And 400 for the rows of length 1.
        (1_340_000_000, FLAT_COSINE, 1343, "with their index", 1340, 598_633),
        (540_000_000, None, 543, "on a host", 540, 596_356),
    ],
)
def test_what_does_not_fit_is_told_in_numbers(*, memory, spec, takes, what, has, room):
    said = refused(Capacity(memory, spec, 100), 10**6)
    assert f"1000000 rows of 100 columns take at least {takes} MB {what}" in said
    assert f"this container has {has} MB" in said
    assert f"Lower sample_size to about {room}," in said


@pytest.mark.parametrize("spec", [*SPECS, None], ids=names)
@given(memory=st.integers(64 << 20, 1 << 40), columns=st.integers(1, 5000))
def test_as_many_rows_as_are_named_fit_and_not_twice_as_many(spec, memory, columns):
    capacity = Capacity(memory, spec, columns)
    room = int(re.search(r"Lower sample_size to about (\d+),", refused(capacity, memory))[1])
    capacity.check(room)
    refused(capacity, 2 * room + 1)


# What nobody's writer exceeds: 17 digits and an exponent; keys, values and a name of ten bytes a number or less.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(rows=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_rows_that_are_certain_are_there_in_csv(rows):
    content = "".join(",".join(f"{value:+.18e}" for value in row) + "\r\n" for row in rows).encode()
    assert certain_rows(len(content), 2, number_bytes(mediatype.CSV)) <= len(rows)


@given(
    rows=st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=50), min_size=1, max_size=10),
    uid=st.text("x", max_size=256),
)
def test_rows_that_are_certain_are_there_in_sparse_records(recordio, rows, uid):
    width = 2**63 - 1  # ten bytes
    content = b"".join(
        recordio.frame(
            recordio.record(
                recordio.tensor(row, "int32", range(width - len(row), width), [width]), recordio.tensor([1], "float64")
            )
            + recordio.field(3, uid.encode())
        )
        for row in rows
    )
    columns = max(map(len, rows))
    assert certain_rows(len(content), columns, number_bytes(mediatype.RECORDIO)) <= len(rows)


def number_bytes(content_type):
    return open_channel("train", {"ContentType": content_type}, None).number_bytes


def test_the_rows_of_large_files_are_certain():
    # 100 numbers and a label of 20 bytes, 1,024 for the rest: 3,044 bytes a row at most.
    assert certain_rows(3_044_000_000, 100, 20) == 1_000_000
    assert certain_rows(3_043, 100, 20) == 0
    assert certain_rows(0, 100, 20) == 0


def test_files_hold_about_so_many_rows_at_most():
    # A digit and a comma or the line's end for each of two features and the label.
    assert most_rows(len(b"1,2,3\n4,5,6\n"), 2) == 2
    assert most_rows(0, 2) is None
