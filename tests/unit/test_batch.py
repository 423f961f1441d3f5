import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array

from knn_container.batch import Batch, SparseRows, check_labels, check_width, dense, finite_float32
from knn_container.errors import FormatError

LARGEST = float(np.finfo(np.float32).max)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.sampled_from([0, 1.5])))
def test_sparse_rows_become_dense_as_scipys_do(rows):
    sparse = csr_array(rows)
    held = SparseRows(sparse.data, sparse.indices.astype(np.int64), sparse.indptr.astype(np.int64), width=rows.shape[1])
    assert (held.shape, len(held)) == (rows.shape, len(rows))
    for spread in (held.dense(), dense(held)):
        assert spread.dtype == np.float32
        np.testing.assert_array_equal(spread, rows)


def test_dense_rows_stay_the_array_that_they_are():
    rows = np.ones((2, 3), np.float32)
    assert dense(rows) is rows


def test_a_batch_is_as_long_as_its_labels():
    assert len(Batch(np.empty((3, 0), np.float32), np.zeros(3))) == 3


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.int64])
def test_numbers_of_every_type_are_rounded_to_float32(dtype):
    numbers = np.array([[1, -(2**24) - 1], [2**31 - 1, 0]]).astype(dtype)
    rounded = finite_float32(numbers, 1)
    assert rounded.dtype == np.float32
    assert rounded.tolist() == [[1, -(2**24)], [2**31, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -3.5e38, LARGEST * 1.0000001])
def test_a_number_outside_float32_is_named_by_its_row_and_feature(value):
    numbers = np.zeros((4, 3))
    numbers[2, 1] = numbers[3, 0] = value
    with pytest.raises(FormatError, match=r"row 12: feature 2 is ") as caught:
        finite_float32(numbers, 10)
    assert (caught.value.row, str(value) in caught.value.reason) == (12, True)


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, LARGEST * 1.00000001, 5e-324, 0.0])
def test_numbers_that_round_into_float32_pass(value):
    assert finite_float32(np.array([[value]]), 1)[0, 0] == np.float32(min(max(value, -LARGEST), LARGEST))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_label_that_is_not_finite_is_named_by_its_row(value):
    with pytest.raises(FormatError, match=f"row 7: the label is {value}"):
        check_labels(np.array([0, 1e300, value, value]), 5)


@pytest.mark.parametrize("labels", [np.array([1.7e308, -0.0]), np.array([2**31 - 1], np.int32), np.array([])])
def test_finite_labels_pass(labels):
    check_labels(labels, 1)


@pytest.mark.parametrize(("came", "expected"), [(3, 3), (3, None), (0, 0)])
def test_the_expected_width_passes(came, expected):
    check_width(came, expected, 1)


@pytest.mark.parametrize(("came", "expected"), [(3, 4), (4, 3), (0, 1), (1, 0)])
def test_another_width_names_the_row_and_both_numbers(came, expected):
    with pytest.raises(FormatError, match=f"row 9: expected {expected} features, {came} came"):
        check_width(came, expected, 9)
