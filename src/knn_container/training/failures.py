"""Says whose failure it is that ended a job."""

import errno

from knn_container.errors import AlgorithmError, PlatformError, TrainingError


def classify(error: BaseException) -> TrainingError:
    """Turns any error into one that says whose it is to mend."""
    if isinstance(error, TrainingError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PlatformError(f"The disk is full: {error}. Give the job a larger volume.")
    if isinstance(error, OSError):
        return PlatformError(str(error) or type(error).__name__)
    if isinstance(error, MemoryError):
        return PlatformError(f"Out of memory: {error}. Use a larger machine or lower sample_size.")
    return AlgorithmError(f"{type(error).__name__}: {error}")


def on_host(name: str, error: BaseException) -> TrainingError:
    """The same, with the name of the host that it happened on."""
    failure = classify(error)
    return type(failure)(f"Host {name}: {failure}")
