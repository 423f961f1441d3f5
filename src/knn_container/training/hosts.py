"""The hosts of a job, as the one that leads it sees them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from knn_container.training.host import Host

Result = TypeVar("Result")


class Hosts(Protocol):
    """Has the hosts of a job do something."""

    @property
    def names(self) -> Sequence[str]:
        """As `resourceconfig.json` has them, sorted; the first leads."""

    def each(self, work: Callable[..., Result], arguments: Mapping[str, tuple[Any, ...]]) -> dict[str, Result]:
        """Calls a function of `Host` on hosts, on all of them at the same time.

        Args:
            work: its first argument is the host.
            arguments: for each host that is to do it, the arguments behind the first.

        Returns:
            What it gave on each host.

        Raises:
            TrainingError: the first failure; it names the host.
        """

    def broadcast(self, work: Callable[..., object], names: Sequence[str], *arguments: Any) -> None:
        """Calls a function of `Host` on the named hosts, with the same arguments, which may be large."""


class Alone:
    """The only host of a job."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def names(self) -> Sequence[str]:
        """The host's."""
        return [self._host.name]

    def each(self, work: Callable[..., Result], arguments: Mapping[str, tuple[Any, ...]]) -> dict[str, Result]:
        """Calls a function."""
        return {name: work(self._host, *given) for name, given in arguments.items()}

    def broadcast(self, work: Callable[..., object], names: Sequence[str], *arguments: Any) -> None:
        """Calls a function."""
        for _ in names:
            work(self._host, *arguments)
