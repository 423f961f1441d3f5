"""The hosts of a job joined by Dask: the first runs the scheduler and leads, and every host runs a worker.

Whoever reaches a Dask port can run code there. So nothing listens on another address than the one by which the hosts
of the job know this one, and Dask's own settings (`DASK_DISTRIBUTED__COMM__TLS__...`) have it use TLS.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from distributed import Client, Scheduler, Security, Worker, get_worker
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from knn_container.errors import AlgorithmError, PlatformError, ReadingStopped, TrainingError, UserError
from knn_container.training import dask_parts
from knn_container.training.dask_parts import LOST, Loop
from knn_container.training.failures import classify, on_host
from knn_container.training.host import Host
from knn_container.training.hosts import Result

_PULSE = 5.0  # seconds between looks whether the leading host lives
_LOOK = 0.2  # seconds between looks whether something has happened
_GOODBYE = 10.0  # seconds that the other hosts have to take note of the job's end
_PLUGIN = "knn-container"
_CAUSES = (
    f"it was ended from outside (out of memory?), hung, or could not be reached for {LOST:.0f} seconds. Its own log "
    "may say more."
)

log = logging.getLogger(__name__)


class Cluster:
    """The hosts of a job, for the one that leads it; `lead` makes one."""

    def __init__(self, host: Host, loop: Loop) -> None:
        self._host = host
        self._loop = loop
        self._watch = _Watch(host)
        self._calls = 0
        self._client: Client
        self._parts: list[Client | Worker | Scheduler] = []

    @property
    def names(self) -> Sequence[str]:
        """As `resourceconfig.json` has them, sorted; the first leads."""
        return self._host.task.hosts

    def join(self, seconds: float) -> None:
        """Starts the scheduler and waits for all hosts.

        Raises:
            PlatformError: names the hosts that did not join in time.
        """
        deadline = time.monotonic() + seconds
        address = _own_address(self._host, deadline, seconds)
        security, protocol = dask_parts.read_security()
        scheduler: Scheduler = self._loop.run(self._start(address, security, protocol))
        self._client = Client(
            scheduler.address, loop=self._loop.tornado, security=security, set_as_default=False, timeout=LOST
        )
        self._parts.insert(0, self._client)
        log.info("Waiting for the hosts %s...", ", ".join(self.names[1:]))
        while missing := sorted(set(self.names) - set(self._watch.names.values())):
            _wait(self._host, deadline, seconds, missing)
        self._watch.guard()
        log.info("All %d hosts have joined.", len(self.names))

    async def _start(self, address: str, security: Security, protocol: str) -> Scheduler:
        scheduler = await dask_parts.start_scheduler(self._watch, address, security, protocol)
        self._parts.append(scheduler)
        here = _Here(self._host)
        worker = await dask_parts.start_worker(
            scheduler.address, self._host.name, here, address=address, security=security, seconds=LOST
        )
        self._parts.insert(0, worker)
        return scheduler

    def each(self, work: Callable[..., Result], arguments: Mapping[str, tuple[Any, ...]]) -> dict[str, Result]:
        """As `Hosts.each`."""
        self._calls += 1
        futures = {
            name: self._client.submit(_do, self._calls, work, *given, workers=[self._watch.address(name)], pure=False)
            for name, given in arguments.items()
        }
        try:
            results: dict[str, Result] = self._client.gather(futures, direct=True)
        except TrainingError:
            raise
        except Exception as error:
            if lost := self._watch.lost():
                raise lost from error
            raise
        return results

    def broadcast(self, work: Callable[..., object], names: Sequence[str], *arguments: Any) -> None:
        """As `Hosts.broadcast`: large arguments travel from host to host."""
        if names:
            workers = [self._watch.address(name) for name in names]
            sent = self._client.scatter(list(arguments), workers=workers, broadcast=True, direct=True, hash=False)
            self.each(work, {name: tuple(sent) for name in names})

    def end(self, failure: TrainingError | None) -> None:
        """Tells the other hosts that the job is over, and leaves."""
        self._watch.release()
        others = self._watch.present(besides=self._host.name)
        with suppress(Exception):  # whoever cannot be told finds out
            told = self._client.run(_end, failure, workers=others, on_error="ignore", asynchronous=True)
            self._loop.run(told, _GOODBYE)
        for part in self._parts:
            with suppress(Exception):
                self._loop.run(dask_parts.close(part), _GOODBYE)


@contextmanager
def lead(host: Host, seconds: float) -> Iterator[Cluster]:
    """Waits for the other hosts of a job and has them work; all end when the context does, or with its error.

    Args:
        host: this one.
        seconds: to wait for the others at most.

    Raises:
        PlatformError: names the hosts that did not join in time, or one that was lost.
    """
    dask_parts.configure()
    cluster = Cluster(host, Loop())
    try:
        cluster.join(seconds)
        yield cluster
    except BaseException as error:
        cluster.end(classify(error))
        raise
    cluster.end(None)


def follow(host: Host, seconds: float) -> None:
    """Does what the leading host asks, until it says that the job is over.

    Args:
        host: this one.
        seconds: to wait for the leading host at most.

    Raises:
        TrainingError: what ended the job, on whatever host.
    """
    dask_parts.configure()
    loop, leader, here = Loop(), host.task.hosts[0], _Here(host)
    deadline = time.monotonic() + seconds
    address = _own_address(host, deadline, seconds)
    security, protocol = dask_parts.read_security()
    log.info("Waiting for the host %s, which leads...", leader)
    starting = loop.start(
        dask_parts.start_worker(
            f"{protocol}://{leader}:{dask_parts.PORT}",
            host.name,
            here,
            address=address,
            security=security,
            seconds=seconds + LOST,
        )
    )
    while not starting.done():
        try:
            _wait(host, deadline, seconds, [leader])
        except TrainingError:
            if not starting.done() or starting.exception():  # else this host is at work, and has rows to give
                raise
    worker: Worker = starting.result()
    try:
        _attend(worker, here, loop, leader)
    finally:
        host.stop.request()  # what this host may still read is of no use
        with suppress(Exception):
            loop.run(worker.close(timeout=1, executor_wait=False), _GOODBYE)


def _attend(worker: Worker, here: "_Here", loop: Loop, leader: str) -> None:
    """Waits until the leading host says that the job is over, or is lost."""
    looked = time.monotonic()
    while not here.over.wait(_LOOK):
        lives = worker.status not in (Status.closing, Status.closed, Status.failed)
        if lives and time.monotonic() - looked > _PULSE:
            lives = _answers(worker, loop)
            looked = time.monotonic()
        if not (lives or here.over.is_set()):  # a leader says that the job is over before it goes
            raise PlatformError(f"The host {leader}, which leads the job, was lost: {_CAUSES}")
    if here.failure:
        raise here.failure


def _answers(worker: Worker, loop: Loop) -> bool:
    """Whether the leading host does."""
    try:
        loop.run(worker.scheduler.identity(), LOST)
    except Exception:
        return False
    return True


class _Here(WorkerPlugin):
    """Gives tasks their host, and takes note of the job's end."""

    name = _PLUGIN

    def __init__(self, host: Host) -> None:
        self.host = host
        self.failure: TrainingError | None = None
        self.over = threading.Event()
        self.calls = 0  # the last one's number


class _Watch(SchedulerPlugin):
    """Knows which hosts have joined, and ends the job when one is lost."""

    name = _PLUGIN

    def __init__(self, host: Host) -> None:
        self.names: dict[str, str] = {}  # by address, of all that have joined
        self._host = host
        self._guarding = False
        self._lost: list[str] = []

    def address(self, name: str) -> str:
        return next(address for address, it in self.names.items() if it == name)

    def present(self, besides: str) -> list[str]:
        joined = list(self.names.items())  # Dask's thread changes them
        return [address for address, name in joined if name != besides and name not in self._lost]

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        self.names[worker] = str(scheduler.workers[worker].name)

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:  # noqa: ARG002 (Dask's signature)
        name = self.names[worker] if self._guarding else self.names.pop(worker, "")
        if self._guarding:
            self._lost.append(name)
            if failure := self.lost():
                self._host.stop.fail(failure)

    def guard(self) -> None:
        """From now on a host that is lost ends the job."""
        self._guarding = True
        self._lost += sorted(set(self._host.task.hosts) - set(self.names.values()))
        if failure := self.lost():
            raise failure

    def release(self) -> None:
        """From now on hosts may go."""
        self._guarding = False

    def lost(self) -> TrainingError | None:
        if not self._lost:
            return None
        return PlatformError(f"The host {', '.join(self._lost)} was lost: {_CAUSES}")


def _do(call: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Runs in a worker, once: Dask does again what it has lost the result of, and a host would count rows twice."""
    here: _Here = get_worker().plugins[_PLUGIN]  # type: ignore[assignment]
    try:
        if call <= here.calls:
            raise PlatformError("What it had done could not be fetched from it.")
        here.calls = call
        return work(here.host, *arguments)
    except Exception as error:
        failure = on_host(here.host.name, error)
        if isinstance(failure, AlgorithmError):  # its traceback does not travel
            log.exception("%s", failure)
        raise failure from None


def _end(failure: TrainingError | None, dask_worker: Worker) -> None:
    """Runs in a worker; Dask gives it by the name of the argument."""
    here: _Here = dask_worker.plugins[_PLUGIN]  # type: ignore[assignment]
    here.failure = failure
    here.over.set()


def _own_address(host: Host, deadline: float, seconds: float) -> str:
    """The address by which the job's hosts know this one; its name can be late."""
    while True:
        with suppress(OSError):
            found = sorted(socket.getaddrinfo(host.name, None, type=socket.SOCK_STREAM))
            return str(found[0][4][0])
        _wait(host, deadline, seconds, [host.name])


def _wait(host: Host, deadline: float, seconds: float, missing: Sequence[str]) -> None:
    """Waits a moment for hosts.

    Raises:
        PlatformError: there is no time left.
        UserError: SIGTERM came.
    """
    try:
        host.stop.wait(_LOOK)
    except ReadingStopped:
        raise UserError("SIGTERM came before the first row was read.") from None
    if time.monotonic() > deadline:
        absent = "finds no address by its own name" if missing == [host.name] else f"did not join host {host.name}"
        raise PlatformError(
            f"Waited {seconds:.0f} seconds (SAGEMAKER_STARTUP_TIMEOUT) for the host {', '.join(missing)}, which "
            f"{absent}. See its log; hosts must reach each other on all TCP ports by their names."
        )
