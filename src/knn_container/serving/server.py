"""Starts gunicorn with the application."""

import gc
import logging
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from knn_container import cpu, heap, memory
from knn_container.errors import ArtifactError, UserError
from knn_container.memory import SharedBlock
from knn_container.serving.app import THREADS, create_app
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.multimodel import create_multi_model_app
from knn_container.serving.negotiation import Defaults, read_defaults
from knn_container.serving.preparation import Preparation
from knn_container.serving.processes import Processes
from knn_container.serving.short_way import ShortWay
from knn_container.serving.store import ModelHolder, ModelStore, own_bytes
from knn_container.serving.turns import CpuTurns
from knn_container.serving.worker import ShortWayWorker
from knn_container.settings import Settings

log = logging.getLogger(__name__)

# SageMaker ends a container 30 seconds after SIGTERM.
_DRAIN_SECONDS = 25
# Of the container's memory, what models may take where KNN_MODEL_MEMORY does not say.
_MODEL_SHARE = 0.75
# And what the bodies of requests that wait may take.
_BODIES_SHARE = 1 / 16
_MOST_PROCESSES = 16
_PROCESS_BYTES = 128 << 20  # of a process, apart from its model
_SWITCH_SECONDS = 0.001  # that a thread holds Python's lock while others wait for it


def count_processes(settings: Settings) -> int:
    """How many server processes there are to be."""
    if settings.multi_model:  # models come by requests, which reach only one of several
        return 1
    if settings.workers is not None:
        return settings.workers
    if settings.model_data:  # of unknown size
        return 1
    try:
        own = own_bytes(settings.base / "model")
    except (ArtifactError, OSError):
        own = 0
    return max(1, min(cpu.budget(), _MOST_PROCESSES, memory.limit() // (own + _PROCESS_BYTES)))


@dataclass(frozen=True)
class Shared:
    """What all server processes have; to be made before they fork.

    Attributes:
        preparation: brings the model.
        processes: what they tell each other.
        block: memory for what makes the model faster.
    """

    preparation: Preparation
    processes: Processes
    block: SharedBlock


def make_app(settings: Settings, defaults: Defaults, shared: Shared, slot: int) -> Flask:
    """Makes the application of one server process and begins to load its model.

    FAISS is used in this process alone, never in one that forks it: OpenMP threads of the parent would be missing in
    the child, and a search would wait for them for ever.
    """
    processes = shared.processes
    plane = DataPlane(CpuTurns(cpu.budget(), processes, slot), defaults, settings.euclidean)
    waiting_bytes = int(memory.limit() * _BODIES_SHARE) // processes.count
    heap.return_large_blocks()
    if settings.multi_model:
        budget = settings.model_memory or int(memory.limit() * _MODEL_SHARE)
        return create_multi_model_app(plane, ModelStore(budget), settings.max_content_length, waiting_bytes)
    holder = ModelHolder(processes, slot, partial(memory.room, processes.count), shared.block)
    threading.Thread(target=holder.load, args=(shared.preparation,), daemon=True).start()
    # SageMaker's documentation and its local mode spell the strategy differently, and a platform's true likewise.
    strategy = "MultiRecord" if settings.batch == "True" else "MULTI_RECORD"
    return create_app(plane, holder, settings.max_content_length, waiting_bytes, batch_strategy=strategy)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn, configured from the settings alone."""

    def __init__(self, settings: Settings, defaults: Defaults, preparation: Preparation, processes: int) -> None:
        self._settings = settings
        self._defaults = defaults
        self._shared = Shared(preparation, Processes(processes), SharedBlock())
        self._slot = 0
        super().__init__()

    def load_config(self) -> None:
        """Sets what differs from gunicorn's defaults."""
        for name, value in {
            "bind": f"0.0.0.0:{self._settings.port}",
            "workers": self._shared.processes.count,
            "worker_class": ShortWayWorker,
            "threads": THREADS,
            "worker_tmp_dir": "/dev/shm",  # noqa: S108 (the heartbeat file: never on a disk that can stall)
            "graceful_timeout": _DRAIN_SECONDS,
            "keepalive": 75,
            "control_socket_disable": True,
            "when_ready": _freeze,
            "pre_fork": self._before_fork,
            "child_exit": self._after_exit,
            "on_exit": self._clean,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """Makes the application; gunicorn calls this in each worker process."""
        sys.setswitchinterval(_SWITCH_SECONDS)
        return Application(make_app(self._settings, self._defaults, self._shared, self._slot))

    def _before_fork(self, _arbiter: Arbiter, worker: Worker) -> None:
        self._slot = self._shared.processes.assign(worker.age)

    def _after_exit(self, _arbiter: Arbiter, worker: Worker) -> None:
        self._shared.processes.free(worker.age)

    def _clean(self, _arbiter: Arbiter) -> None:
        self._shared.preparation.clean()


def _freeze(_arbiter: Arbiter) -> None:
    """Leaves what the processes will share out of all garbage collections, which would write into it."""
    gc.collect()
    gc.freeze()


class Application:
    """The Flask application, as gunicorn needs it.

    Attributes:
        short_way: of small requests; None if they have none.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self.short_way: ShortWay | None = app.extensions.get(ShortWay.__name__)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Says that the connection will be closed after an error, whose request's body may be unread.

        gunicorn closes such a connection, but leaves it to this to say so.
        """

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            if status.startswith(("4", "5")):
                start_response.__self__.force_close()  # type: ignore[attr-defined]  # gunicorn's Response
            return start_response(status, headers, *rest)

        return self._app(environ, start)


def main(settings: Settings, preparation: Preparation) -> int:
    """Serves until SIGTERM; returns the exit status."""
    try:
        defaults = read_defaults(settings.default_accept, settings.output)
        if settings.multi_model and settings.model_data:
            raise UserError("MODEL_DATA_URL: expected none with SAGEMAKER_MULTI_MODEL, whose models come by requests.")
    except UserError as error:
        log.error("%s", error)
        preparation.clean()
        return 2
    what = "many models" if settings.multi_model else str(settings.model_data or settings.base / "model")
    cpus, processes = cpu.budget(), count_processes(settings)
    log.info(
        "Serving %s on port %d: %d processes x %d request threads; %d CPUs (%s), %d searches at once in a process, "
        "up to %d OpenMP threads in a search.",
        what,
        settings.port,
        processes,
        THREADS,
        cpus,
        cpu.origin(),
        -(-cpus // processes),
        cpus,
    )
    Server(settings, defaults, preparation, processes).run()
    return 0
