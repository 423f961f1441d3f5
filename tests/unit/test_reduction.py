"""Random projections: what they keep, what they are made of, and what they cost."""

from hashlib import shake_256
from itertools import pairwise
from statistics import median
from time import perf_counter

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits

from knn_container.batch import SparseRows
from knn_container.reduction import FJLT, ROTATION, SIGN, Reduction, project_for

TYPES = [SIGN, FJLT]


def projection(kind, width, target, seed=0):
    return project_for(Reduction(kind, target, seed), width, target)


def sparse(rows):
    """(n, d) rows without their zeros."""
    lengths = (rows != 0).sum(axis=1)
    numbers, columns = np.nonzero(rows)
    return SparseRows(rows[numbers, columns], columns, np.concatenate(([0], np.cumsum(lengths))), rows.shape[1])


def signs(count, purpose):
    """+1 for a bit that is 0 and -1 for one that is 1, as SHAKE-256 gives them."""
    digest = np.frombuffer(shake_256(purpose.encode()).digest(-(-count // 8)), np.uint8)
    return 1 - 2 * np.unpackbits(digest)[:count].astype(np.float64)


def sign_matrix(width, target, seed):
    return signs(width * target, f"sign {seed}").reshape(width, target) / target**0.5


def fjlt_matrix(width, target, seed):
    """sqrt(d / target) S H D: S chooses coefficients, H is Hartley's transform, D has random signs."""
    numbers = np.arange(width)
    angles = 2 * np.pi * np.outer(numbers, numbers) / width
    hartley = (np.cos(angles) + np.sin(angles)) / width**0.5
    keys = np.frombuffer(shake_256(f"fjlt sample {seed}".encode()).digest(8 * width), "<u8")
    chosen = sorted(sorted(numbers, key=lambda number: keys[number])[:target])
    return ((width / target) ** 0.5 * hartley[chosen] * signs(width, f"fjlt {seed}")).T


@pytest.mark.parametrize("shape", ["normal", "one column", "constant", "few columns"])
@pytest.mark.parametrize("kind", TYPES)
def test_squared_lengths_are_kept_in_expectation(kind, shape):
    row = {
        "normal": np.random.default_rng(0).normal(size=30),
        "one column": np.eye(30)[4],
        "constant": np.ones(30),
        "few columns": np.eye(30)[3] - 2 * np.eye(30)[17],
    }[shape].astype(np.float32)
    kept = [float(np.square(projection(kind, 30, 6, seed)(row[np.newaxis])).sum()) for seed in range(600)]
    error = np.std(kept) / len(kept) ** 0.5
    # With rows of one column `sign` keeps the length for certain: nothing but float32's rounding is left.
    assert abs(np.mean(kept) - np.square(row).sum()) < 4 * error + 1e-6


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", TYPES)
def test_distances_are_within_the_johnson_lindenstrauss_bound(kind, seed):
    # A squared distance is off by more than a share e with a probability below 2 exp(-target (e^2/4 - e^3/6))
    # (Achlioptas 2001, lemma 1.1): for e = 0.5, 512 columns and the 780 pairs of 40 rows, 8e-7 over all of them.
    # Coefficients of fjlt are sums of 2,000 terms of random sign, so nearly normal, to which the same bound applies.
    rows = np.random.default_rng(1).lognormal(size=(40, 2000)).astype(np.float32)
    ratios = np.square(pdist(projection(kind, 2000, 512, seed)(rows))) / np.square(pdist(rows))
    assert 0.5 < ratios.min() < 1 < ratios.max() < 1.5


@pytest.mark.parametrize("kind", [FJLT, ROTATION])
@pytest.mark.parametrize("width", [1, 2, 7, 64, 101])
def test_a_target_of_all_columns_is_a_rotation(kind, width):
    rows = np.random.default_rng(2).normal(size=(20, width)).astype(np.float32)
    rotated = projection(kind, width, width)(rows)
    np.testing.assert_allclose(pdist(rotated), pdist(rows), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rotated @ rotated.T, rows @ rows.T, rtol=1e-4, atol=1e-4)
    if width > 1:
        assert not np.allclose(rotated, rows)


@pytest.mark.parametrize("seed", [0, 12345])
@pytest.mark.parametrize(("kind", "matrix"), [(SIGN, sign_matrix), (FJLT, fjlt_matrix)])
@pytest.mark.parametrize(("width", "target"), [(2, 1), (9, 4), (10, 9), (64, 32), (101, 7)])
def test_rows_are_multiplied_by_the_documented_matrix(kind, matrix, width, target, seed):
    rows = np.random.default_rng(3).normal(size=(15, width)).astype(np.float32)
    projected = projection(kind, width, target, seed)(rows)
    assert projected.dtype == np.float32
    expected = rows.astype(np.float64) @ matrix(width, target, seed)
    np.testing.assert_allclose(projected, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SIGN, [[-7, 0, 3, 12], [-0.5, 0.5, -0.5, 0.5]]),
        (FJLT, [[-1, -9, -1, 6 * 2**0.5 - 3], [0.5, 0.5, -0.5, -0.5]]),
    ],
)
def test_projections_never_change(kind, expected):
    # Trained models hold rows that were projected so.
    rows = np.array([[1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 1, 0, 0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(projection(kind, 8, 4)(rows), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mean", [0, 1e6])
@pytest.mark.parametrize("kind", TYPES)
def test_a_row_alone_is_projected_as_in_a_batch_to_the_last_bit(kind, mean):
    rows = np.random.default_rng(4).normal(mean, 1, (300, 200)).astype(np.float32)
    project = projection(kind, 200, 48)
    together = project(rows)
    for block in (1, 7, 64):
        parts = [project(rows[start:end]) for start, end in pairwise([*range(0, 300, block), 300])]
        assert np.concatenate(parts).tobytes() == together.tobytes()


def test_rows_whose_large_columns_cancel_are_projected_alone_as_in_a_batch():
    # As where two columns hold times of day in seconds since 1970.
    rows = np.random.default_rng(5).normal(size=(300, 200))
    rows[:, [20, 150]] += 1.7e9
    rows = rows.astype(np.float32)
    project = projection(SIGN, 200, 48)
    alone = [project(row[np.newaxis]) for row in rows]
    assert np.concatenate(alone).tobytes() == project(rows).tobytes()


@pytest.mark.parametrize("kind", TYPES)
def test_sparse_rows_are_projected_as_dense_ones(kind, monkeypatch):
    rng = np.random.default_rng(6)
    rows = (rng.normal(size=(60, 300)) * (rng.random((60, 300)) < 0.05)).astype(np.float32)
    rows[[0, 30, 59]] = 0
    project = projection(kind, 300, 20)
    expected = project(rows)
    if kind == SIGN:
        monkeypatch.setattr(SparseRows, "dense", lambda _: pytest.fail("the rows were made dense"))
    np.testing.assert_allclose(project(sparse(rows)), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(project(sparse(rows))[[0, 30, 59]], 0)


@pytest.mark.parametrize(
    ("kind", "as_rows"),
    [
        (SIGN, np.asarray),
        (FJLT, np.asarray),
        (FJLT, sparse),
        # A batch of which the sample keeps no row.
        (SIGN, sparse),
    ],
)
def test_no_rows_are_projected_to_no_rows(kind, as_rows):
    assert projection(kind, 10, 4)(as_rows(np.empty((0, 10), np.float32))).shape == (0, 4)


@pytest.mark.parametrize("kind", TYPES)
def test_rows_of_the_largest_float32_numbers_stay_finite(kind):
    rows = np.full((3, 64), np.finfo(np.float32).max)
    assert np.isfinite(projection(kind, 64, 32)(rows)).all()


@pytest.mark.parametrize("kind", TYPES)
def test_seeds_make_projections_of_their_own(kind):
    rows = np.ones((1, 50), np.float32)
    assert len({projection(kind, 50, 10, seed)(rows).tobytes() for seed in range(20)}) == 20


def test_without_a_reduction_columns_of_zeros_are_added():
    rows = np.array([[1, 2], [3, 4]], np.float32)
    for given in (rows, sparse(rows)):
        np.testing.assert_array_equal(project_for(None, 2, 2)(given), rows)
        np.testing.assert_array_equal(project_for(None, 2, 5)(given), [[1, 2, 0, 0, 0], [3, 4, 0, 0, 0]])


def test_from_10000_columns_to_1000_fjlt_is_faster_than_sign():
    rows = np.random.default_rng(7).normal(size=(200, 10_000)).astype(np.float32)
    seconds = {}
    for kind in TYPES:
        project = projection(kind, 10_000, 1000)
        times = []
        for _ in range(7):
            start = perf_counter()
            project(rows)
            times.append(perf_counter() - start)
        seconds[kind] = median(times)
    assert seconds[FJLT] < seconds[SIGN]


@pytest.mark.parametrize("kind", TYPES)
def test_half_the_columns_of_the_digits_keep_their_nearest_neighbour_classifier(kind):
    rows, labels = load_digits(return_X_y=True)

    def accuracy(table):
        squares = np.square(table).sum(axis=1)
        distances = squares[1000:, np.newaxis] + squares[:1000] - 2 * table[1000:] @ table[:1000].T
        return np.mean(labels[:1000][distances.argmin(axis=1)] == labels[1000:])

    reduced = projection(kind, 64, 32)(rows.astype(np.float32)).astype(np.float64)
    assert accuracy(reduced) > accuracy(rows) - 0.03
