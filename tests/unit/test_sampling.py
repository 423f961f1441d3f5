import tracemalloc
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare

from knn_container.sampling import BottomK, row_keys

UNEVEN = {"a": 98, "b": 1, "c": 1}


def key_by_hand(seed: int, path: bytes, number: int) -> int:
    """SplitMix64 in Python's own integers."""

    def mix(bits: int) -> int:
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
        return bits ^ bits >> 31

    digest = blake2b(str(seed).encode() + b"\0" + path, digest_size=16).digest()
    first, second = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    return mix(mix((number * 0x9E3779B97F4A7C15 + first) % 2**64) ^ second)


def sample_of(files: dict[str, int], size: int, seed: int = 0, batch: int = 1000, labels=np.float32):
    """Samples rows whose features and labels hold their running number over all files."""
    reservoir, offset = BottomK(size, seed), 0
    for path, rows in files.items():
        add_file(reservoir, path, offset, rows, batch, labels)
        offset += rows
    return reservoir.finish()


def add_file(reservoir, path, offset, rows, batch=1000, labels=np.float32):
    """Offers a file's rows, which are numbered from `offset` over all files."""
    for start in range(0, rows, batch):
        part = np.arange(offset + start, offset + min(start + batch, rows))
        reservoir.add(path, start, np.stack([part, -part], axis=1).astype(np.float32), part.astype(labels))


def features_of(sample):
    return sample.features[sample.order]


@pytest.mark.parametrize(
    ("seed", "path", "number", "key"),
    [
        (0, "train.csv", 0, 0x6AD053BE628B665A),
        (0, "train.csv", 1, 0xED1F89C9D0CC6A38),
        (0, "train.csv", 4294967296, 0x0EE95DEC6E4062F5),
        (1, "train.csv", 0, 0xE412A65992F5C5A5),
        (2147483647, "a/b/matrix_0.pbr", 12345, 0x1F0609B51A71C5F2),
        (0, "", 0, 0xFABB06705380BCA1),
        (0, "déjà vu.csv", 7, 0x481AB761E16D3F2A),
    ],
)
def test_keys_never_change(seed, path, number, key):
    assert row_keys(seed, path, number, 1).tolist() == [key]


@given(seed=st.integers(0, 2**31), path=st.text(), start=st.integers(0, 2**62), count=st.integers(0, 5))
def test_keys_are_splitmix64_under_blake2b(seed, path, start, count):
    try:
        name = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return  # not the name of a file
    expected = [key_by_hand(seed, name, start + i) for i in range(count)]
    assert row_keys(seed, path, start, count).tolist() == expected


def test_files_and_seeds_have_keys_of_their_own():
    keys = np.concatenate([row_keys(seed, path, 0, 1000) for seed in range(10) for path in ("a", "b", "dir/a", "")])
    assert len(np.unique(keys)) == 40_000


def test_each_bit_of_the_keys_is_a_fair_coin():
    bits = np.unpackbits(row_keys(0, "x", 0, 100_000).view(np.uint8).reshape(-1, 8), axis=1)
    np.testing.assert_allclose(bits.mean(axis=0), 0.5, atol=5 * 0.5 / np.sqrt(100_000))
    assert chisquare(np.bincount(row_keys(0, "x", 0, 100_000) >> np.uint64(56), minlength=256)).pvalue > 1e-3


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    size=st.integers(1, 200),
    batch=st.integers(1, 70),
    seed=st.integers(0, 100),
)
def test_the_sample_is_the_rows_with_the_smallest_keys_in_data_order(sizes, size, batch, seed):
    files = {f"file {i}": rows for i, rows in enumerate(sizes)}
    keys = [key_by_hand(seed, path.encode(), i) for path, rows in files.items() for i in range(rows)]
    expected = sorted(sorted(range(len(keys)), key=keys.__getitem__)[:size])

    sample = sample_of(files, size, seed, batch)
    assert len(sample) == len(expected) == min(size, sum(sizes))
    assert sample.rows_read == sum(sizes)
    assert sample.ids.tolist() == sample.labels.tolist() == expected
    if expected:
        np.testing.assert_array_equal(features_of(sample), np.stack([expected, np.negative(expected)], axis=1))


@pytest.mark.parametrize("batch", [1, 7, 99, 5000])
def test_the_sample_does_not_depend_on_the_batch_size(batch):
    files = {"a": 300, "b": 40, "c": 900}
    assert sample_of(files, 100, batch=batch).ids.tolist() == sample_of(files, 100, batch=64).ids.tolist()


def test_the_sample_does_not_depend_on_the_order_in_which_files_are_read():
    samples = []
    for order in (("b", "c"), ("c", "b")):
        reservoir = BottomK(50, 0)
        for path in order:
            add_file(reservoir, path, {"b": 0, "c": 200}[path], {"b": 200, "c": 100}[path])
        samples.append(reservoir.finish())
    assert samples[0].ids.tolist() == samples[0].labels.tolist() == samples[1].ids.tolist()
    np.testing.assert_array_equal(features_of(samples[0]), features_of(samples[1]))


def test_every_row_is_as_likely_as_any_other_however_the_files_are_cut():
    rows, size, seeds = 100, 10, 1000
    drawn = np.zeros(rows)
    for seed in range(seeds):
        drawn[sample_of(UNEVEN, size, seed, batch=30).ids] += 1
    expected = seeds * size / rows
    # Without replacement the counts vary by (1 - size / rows), and add up, which leaves rows - 1 degrees of freedom.
    statistic = np.square(drawn - expected).sum() / expected / (1 - size / rows) * (rows - 1) / rows
    assert 1e-3 < chi2.sf(statistic, rows - 1) < 1 - 1e-3


def test_pairs_of_rows_are_drawn_together_as_often_as_chance_has_it():
    together = np.zeros((20, 20))
    for seed in range(1000):
        ids = sample_of({"a": 18, "b": 1, "c": 1}, 5, seed).ids
        together[np.ix_(ids, ids)] += 1
    pairs = together[np.triu_indices(20, 1)]
    expected = 1000 * 5 * 4 / (20 * 19)
    assert np.abs(pairs - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize("size", [100, 101, 10**9])
def test_a_sample_of_at_least_the_rows_keeps_all(size):
    sample = sample_of(UNEVEN, size, batch=9)
    assert sample.ids.tolist() == list(range(100))
    np.testing.assert_array_equal(features_of(sample)[:, 0], np.arange(100))


def test_ids_are_running_numbers_over_all_files():
    sample = sample_of({"a": 3, "empty": 0, "b": 2}, 10)
    assert sample.ids.tolist() == [0, 1, 2, 3, 4]
    assert sample.ids.dtype == np.int64


@pytest.mark.parametrize("rows", [1, 3, 40, 1000])
def test_blocks_give_the_features_in_data_order(rows):
    sample = sample_of(UNEVEN, 40)
    blocks = list(sample.blocks(rows))
    assert max(map(len, blocks)) == min(rows, 40)
    np.testing.assert_array_equal(np.concatenate(blocks), features_of(sample))
    np.testing.assert_array_equal(np.concatenate(blocks)[:, 0], sample.ids)


@pytest.mark.parametrize(
    ("types", "kept"),
    [
        (["int32"], "int32"),
        (["float32"], "float32"),
        (["float64"], "float64"),
        (["int32", "int32"], "int32"),
        (["int32", "float32"], "float64"),
        (["float32", "int32"], "float64"),
        (["float32", "float32", "float64"], "float64"),
    ],
)
@pytest.mark.parametrize("size", [1, 100])
def test_labels_have_the_narrowest_type_that_holds_all_that_were_read(types, kept, size):
    reservoir = BottomK(size, 0)
    for i, name in enumerate(types):
        reservoir.add(str(i), 0, np.zeros((2, 1), np.float32), np.array([1, 2], name))
    assert reservoir.finish().labels.dtype == kept


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2**24 + 1, -(2**31), 2**31 - 1], np.int32),
        np.array([2**53 - 1, 2**53, -(2**53)], np.float64),
        np.array([2**53 - 1, 2**53, -(2**53)], np.int64),
        np.array([0.1, -0.0, 3e38], np.float32),
    ],
)
def test_labels_come_back_to_the_last_bit(labels):
    reservoir = BottomK(3, 0)
    reservoir.add("a", 0, np.zeros((3, 2), np.float32), labels)
    kept = reservoir.finish().labels
    assert kept.dtype == labels.dtype
    assert kept.tobytes() == labels.tobytes()


def test_nothing_read_gives_an_empty_sample():
    sample = BottomK(3, 0).finish()
    assert (len(sample), sample.rows_read, list(sample.blocks(10))) == (0, 0, [])


def test_memory_is_that_of_the_sample_and_a_few_batches():
    rows, columns, batch, size = 200_000, 50, 2_000, 1_000
    features, labels = np.ones((batch, columns), np.float32), np.ones(batch, np.float32)
    reservoir = BottomK(size, 0)
    tracemalloc.start()
    try:
        for start in range(0, rows, batch):
            reservoir.add("a", start, features, labels)
        sample = reservoir.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sample) == size
    assert peak < 3 * (batch + size) * columns * 4  # all rows would be 40 MB


def test_no_more_rows_are_told_of_than_are_asked_for():
    sampler = BottomK(100, 0)
    for start in range(0, 200, 4):
        sampler.add("a", start, np.zeros((4, 2), np.float32), np.zeros(4))
        expected = min(100, start + 4)
        assert len(sampler) == expected
    assert sampler.summary().rows == 100
    sampler.add("b", 0, np.zeros((4, 2), np.float32), np.zeros(4))
    assert sampler.count(np.array([2**64 - 1], np.uint64)).tolist() == [100]
    assert len(sampler.settle().labels) == 100
    assert sampler.finish().features.shape == (100, 2)
