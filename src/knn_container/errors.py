"""What can go wrong, told apart by whose it is to mend."""


class FormatError(ValueError):
    """Bytes that are not what their format promises.

    Attributes:
        row: the row at fault, counted from 1 in its file or request; None where no single row is.
        reason: what was expected and what came.
    """

    def __init__(self, reason: str, row: int | None = None) -> None:
        super().__init__(reason if row is None else f"row {row}: {reason}")
        self.reason = reason
        self.row = row


class ReadingStopped(Exception):  # noqa: N818 (no error: the rows read so far stand)
    """Raised by a stream whose reader is to stop; what whole rows it has given stay."""


class ArtifactError(ValueError):
    """A model that cannot be used, with what to do about it."""


class TrainingError(Exception):
    """Ends a training job; its class is what SageMaker shows before the reason."""

    label = "AlgorithmError"


class UserError(TrainingError):
    """The user's to mend: hyperparameters, channels, data."""

    label = "ClientError"


class AlgorithmError(TrainingError):
    """Ours to mend: a failure that no input explains."""


class PlatformError(TrainingError):
    """The machine's: a full disk, a signal."""

    label = "InternalServerError"


class RequestError(Exception):
    """Ends a request with a status and a sentence for its sender.

    Attributes:
        status: the HTTP status, 400 to 599.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
