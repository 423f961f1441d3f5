"""A sample that several readers take together is the one that a single reader takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from knn_container.sampling import LARGEST_KEY, BottomK, last_key, merge, row_keys

LABEL_TYPES = ("int32", "float32", "float64")


class File:
    """Rows that hold their number over all files, in batches."""

    def __init__(self, name, first, rows, *, label_type="float32", named=False):
        self.name = name
        self._numbers = np.arange(first, first + rows)
        self._label_type = label_type
        self._named = named

    def batches(self, size):
        for start in range(0, len(self._numbers), size):
            yield start, self._numbers[start : start + size]

    def add(self, reader, start, numbers):
        # Every third row of a file with names has none.
        uids = [f"row {number}" if number % 3 else "" for number in numbers] if self._named else []
        features = np.stack([numbers, -numbers], axis=1).astype(np.float32)
        reader.add(self.name, start, features, (numbers % 7).astype(self._label_type), uids=uids)


def files_of(sizes, label_types=(), named=()):
    files, first = [], 0
    for place, rows in enumerate(sizes):
        label_type = label_types[place] if place < len(label_types) else "float32"
        files.append(File(f"file {place}", first, rows, label_type=label_type, named=place in named))
        first += rows
    return files


def read(reader, files, batch=10):
    for file in files:
        for start, numbers in file.batches(batch):
            file.add(reader, start, numbers)
    return reader


def together(readers, size):
    """The features, labels, ids and number of rows read of several readers' sample."""
    summaries = [reader.summary() for reader in readers]
    count = lambda keys: np.sum([reader.count(keys) for reader in readers], axis=0)  # noqa: E731
    limit = last_key(size, count) if sum(it.rows for it in summaries) > size else LARGEST_KEY
    parts = [reader.settle(limit) for reader in readers]
    labels, ids, places = merge(summaries, parts)
    features = np.empty((len(ids), 2), np.float32)
    for reader, part, place in zip(readers, parts, places, strict=True):
        if len(part.numbers):
            features[place] = reader.rows(0, len(part.numbers))
    return features, labels, ids, sum(it.rows_read for it in summaries)


def assert_same(found, expected):
    features, labels, ids, rows_read = found
    assert (len(ids), rows_read) == (len(expected), expected.rows_read)
    assert (ids.dtype, labels.dtype) == (expected.ids.dtype, expected.labels.dtype)
    assert ids.tolist() == expected.ids.tolist()
    assert labels.tolist() == expected.labels.tolist()
    if len(expected):
        np.testing.assert_array_equal(features, expected.features[expected.order])


@given(
    dealt=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.sampled_from(LABEL_TYPES)), max_size=7),
    named=st.sets(st.integers(0, 6)),
    order=st.randoms(),
    size=st.integers(1, 250),
    batches=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    seed=st.integers(0, 1000),
)
def test_readers_of_any_files_in_any_order_have_the_sample_of_one(dealt, named, order, size, batches, seed):
    files = files_of([rows for rows, _, _ in dealt], [kind for _, _, kind in dealt], named)
    expected = read(BottomK(size, seed), files, batches[0]).finish()
    readers = [BottomK(size, seed) for _ in range(4)]
    given_out = list(zip(files, (host for _, host, _ in dealt), strict=True))
    order.shuffle(given_out)
    for file, host in given_out:
        read(readers[host], [file], batches[1])
    assert_same(together(readers, size), expected)


@given(
    rows=st.tuples(st.integers(0, 200), st.integers(0, 50)),
    turns=st.integers(1, 5),
    size=st.integers(1, 300),
    batch=st.integers(1, 60),
)
def test_readers_that_take_turns_at_a_file_have_the_sample_of_one(rows, turns, size, batch):
    files = files_of(rows)  # the second is the last reader's alone: its rows count from the end of the first
    expected = read(BottomK(size, 0), files).finish()
    readers = [BottomK(size, 0) for _ in range(turns)]
    for number, (start, numbers) in enumerate(files[0].batches(batch)):
        files[0].add(readers[number % turns], start, numbers)
    read(readers[-1], files[1:])
    assert_same(together(readers, size), expected)


def test_a_reader_of_whose_rows_none_stays_gives_none():
    files = files_of([500, 1])
    (key,) = row_keys(0, "file 1", 0, 1)
    assert key > np.sort(row_keys(0, "file 0", 0, 500))[4], "the row is not among the five smallest"
    readers = [read(BottomK(5, 0), [file]) for file in files]
    assert_same(together(readers, 5), read(BottomK(5, 0), files).finish())
    assert len(readers[1]) == 0


def test_readers_that_read_nothing_have_an_empty_sample():
    assert_same(together([BottomK(3, 0), BottomK(3, 0)], 3), BottomK(3, 0).finish())


@pytest.mark.parametrize("types", [("int32", "float32"), ("float32", "int32"), ("int32", "int32")])
def test_labels_have_the_type_that_holds_those_of_all_readers_though_few_stay(types):
    files = files_of([50, 50], types)
    readers = [read(BottomK(1, 0), [file]) for file in files]
    assert together(readers, 1)[1].dtype == ("int32" if set(types) == {"int32"} else "float64")


def test_names_that_one_reader_alone_has_make_text_of_all_ids():
    files = files_of([4, 4], named={1})
    readers = [read(BottomK(10, 0), [file]) for file in files]
    assert together(readers, 10)[2].tolist() == ["0", "1", "2", "3", "row 4", "row 5", "6", "row 7"]


def test_every_row_is_as_likely_as_any_other_though_one_reader_has_nearly_all():
    shares, size, seeds = (98, 1, 1), 10, 1000
    drawn = np.zeros(100)
    for seed in range(seeds):
        readers = [read(BottomK(size, seed), [file], 30) for file in files_of(shares)]
        drawn[together(readers, size)[2]] += 1
    expected = seeds * size / 100
    # As in test_sampling: without replacement the counts vary by (1 - size / rows), and add up.
    statistic = np.square(drawn - expected).sum() / expected / (1 - size / 100) * 99 / 100
    assert 1e-3 < chi2.sf(statistic, 99) < 1 - 1e-3
    # The two rows with a reader of their own; 1,000 draws at 0.1 stray by 9.5.
    assert np.abs(drawn[98:] - expected).max() < 4 * 9.5


@given(
    keys=st.lists(st.integers(0, LARGEST_KEY), min_size=1, max_size=300, unique=True),
    near=st.integers(0, LARGEST_KEY - 300),
    share=st.floats(0, 1),
)
def test_the_last_key_is_found_in_eight_questions(keys, near, share):
    keys = sorted({*keys, *range(near, near + 100)})  # far from each other, and side by side
    held, asked = np.array(keys, np.uint64), []

    def count(grid):
        assert (grid.dtype, np.all(grid[1:] > grid[:-1])) == (np.uint64, True)
        asked.append(len(grid))
        return np.searchsorted(held, grid, side="right")

    size = max(1, round(share * len(keys)))
    assert last_key(size, count) == keys[size - 1]
    assert len(asked) <= 8
    assert max(asked) <= 300
