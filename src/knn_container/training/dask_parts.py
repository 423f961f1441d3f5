"""The parts of Dask, as a job has them: no ports but those that hosts need, and no logs but those asked for."""

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import dask
from distributed import Client, Scheduler, Security, Worker
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin
from distributed.utils import LoopRunner

from knn_container.errors import PlatformError

PORT = 8786  # the scheduler's
LOST = 20.0  # seconds without a sign of life after which a host is given up; Dask looks as often
_SETTINGS = {
    "distributed.admin.tick.limit": "10 minutes",  # no warnings that the machine is busy
    "distributed.comm.timeouts.connect": "10s",
    "distributed.comm.timeouts.tcp": f"{LOST}s",
    "distributed.diagnostics.nvml": False,
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.http.routes": [],
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.worker-ttl": f"{LOST}s",
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
}

log = logging.getLogger(__name__)
T = TypeVar("T")


class Loop:
    """Dask's event loop, in a thread of its own."""

    def __init__(self) -> None:
        runner = LoopRunner(asynchronous=False)
        runner.start()
        self.tornado = runner.loop

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begins something in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.tornado.asyncio_loop)

    def run(self, work: Any, seconds: float | None = None) -> Any:
        """Waits for something that runs in the loop, for some seconds at most."""

        async def bounded() -> Any:
            return await asyncio.wait_for(work, seconds)

        return asyncio.run_coroutine_threadsafe(bounded(), self.tornado.asyncio_loop).result()


async def start_scheduler(plugin: SchedulerPlugin, address: str, security: Security, protocol: str) -> Scheduler:
    """Starts a scheduler that listens at an address.

    Raises:
        PlatformError: it cannot listen there.
    """
    scheduler = Scheduler(host=address, port=PORT, protocol=protocol, security=security, dashboard=False)
    scheduler.add_plugin(plugin)
    await _begin(scheduler, f"{address}:{PORT}")
    scheduler.http_server.stop()
    return scheduler


async def start_worker(
    scheduler: str, name: str, plugin: WorkerPlugin, *, address: str, security: Security, seconds: float
) -> Worker:
    """Starts a worker of one thread.

    Args:
        scheduler: where that listens.
        name: by which the scheduler knows the worker.
        plugin: that the worker has from the start.
        address: where the worker is to listen.
        security: as the scheduler's.
        seconds: to wait for the scheduler at most.

    Raises:
        PlatformError: it cannot listen there.
    """
    worker = Worker(
        scheduler,
        name=name,
        host=address,
        nthreads=1,
        memory_limit=0,
        security=security,
        dashboard=False,
        plugins=(plugin,),
        death_timeout=seconds,
    )
    await _begin(worker, address)
    worker.http_server.stop()
    return worker


async def _begin(part: Worker | Scheduler, address: str) -> None:
    """Starts a part of Dask, which by itself does not say why it cannot."""
    try:
        await part
    except RuntimeError as error:
        if isinstance(error.__cause__, OSError):
            what = type(part).__name__.lower()
            raise PlatformError(f"Dask's {what} cannot start at {address}: {error.__cause__}.") from error
        raise


async def close(part: Client | Worker | Scheduler) -> None:
    """Ends a part without waiting for others."""
    if isinstance(part, Client):
        await part._close(fast=True)
    elif isinstance(part, Worker):
        await part.close(timeout=1, executor_wait=False)
    else:
        await part.close()


def configure() -> None:
    """Sets Dask up; what it logs, tracebacks of all that ends among it, comes only where everything is asked for."""
    dask.config.set(_SETTINGS)
    for name in ("distributed", "bokeh", "tornado"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET if log.isEnabledFor(logging.DEBUG) else logging.CRITICAL)


def read_security() -> tuple[Security, str]:
    """Dask's own settings, and the protocol that they ask for."""
    security: Any = Security()
    return security, "tls" if security.tls_ca_file or security.require_encryption else "tcp"
