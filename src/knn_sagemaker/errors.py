"""What ends a command, told apart by its exit status."""


class Mistake(Exception):  # noqa: N818 (a wrong command line)
    """Options that cannot be used together, or values out of range; nothing has been sent. Exit status 2."""


class Failure(Exception):  # noqa: N818 (the service's, or the network's)
    """Something that was asked for did not happen. Exit status 1."""


class Unreadable(Failure):
    """An answer came that cannot be read: what was asked for may have happened or not."""


class Refused(Failure):
    """The service answered with an error.

    Attributes:
        code: the service's name for it, such as `ValidationException`.
    """

    def __init__(self, operation: str, code: str, message: str) -> None:
        super().__init__(f"{operation} was refused: {code}: {message}")
        self.code = code
