"""Whose failure it is that ended a job."""

import errno
import pickle

import pytest

from knn_container.errors import AlgorithmError, PlatformError, UserError
from knn_container.training.failures import classify, on_host


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/opt/ml/model/x"), PlatformError, "The disk is full: "),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), PlatformError, "The disk is full: "),
        (OSError(errno.EIO, "Input/output error", "/x"), PlatformError, "[Errno 5] Input/output error: '/x'"),
        (ConnectionResetError("gone"), PlatformError, "gone"),
        (TimeoutError(), PlatformError, "TimeoutError"),
        (
            MemoryError("Unable to allocate 8 GiB"),
            PlatformError,
            "Out of memory: Unable to allocate 8 GiB. Use a larger",
        ),
        (KeyError("x"), AlgorithmError, "KeyError: 'x'"),
        (ZeroDivisionError("division by zero"), AlgorithmError, "ZeroDivisionError: division by zero"),
    ],
)
def test_errors_are_told_apart_by_whose_they_are_to_mend(error, kind, says):
    failure = classify(error)
    assert type(failure) is kind
    assert str(failure).startswith(says)


@pytest.mark.parametrize("kind", [UserError, AlgorithmError, PlatformError])
def test_what_has_been_classified_stays_as_it_is(kind):
    failure = kind("row 7")
    assert classify(failure) is failure


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (UserError("row 7 is bad"), UserError, "Host algo-2: row 7 is bad"),
        (KeyError("x"), AlgorithmError, "Host algo-2: KeyError: 'x'"),
        (
            MemoryError("8 GiB"),
            PlatformError,
            "Host algo-2: Out of memory: 8 GiB. Use a larger machine or lower sample_",
        ),
    ],
)
def test_a_hosts_failure_names_it_and_travels(error, kind, says):
    failure = pickle.loads(pickle.dumps(on_host("algo-2", error)))
    assert type(failure) is kind
    assert str(failure).startswith(says)
