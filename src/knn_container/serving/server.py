"""Starts gunicorn with the application."""

import logging
import shutil
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from knn_container import cpu, memory
from knn_container.errors import UserError
from knn_container.serving.app import THREADS, create_app
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.fetching import fetch
from knn_container.serving.multimodel import create_multi_model_app
from knn_container.serving.negotiation import Defaults, read_defaults
from knn_container.serving.readiness import Readiness
from knn_container.serving.store import ModelHolder, ModelStore
from knn_container.serving.turns import CpuTurns
from knn_container.settings import Settings

log = logging.getLogger(__name__)

# SageMaker ends a container 30 seconds after SIGTERM.
_DRAIN_SECONDS = 25
# Of the container's memory, what models may take where KNN_MODEL_MEMORY does not say.
_MODEL_SHARE = 0.75


def make_app(
    settings: Settings, defaults: Defaults, readiness: Readiness, slot: int, shared: Path | None = None
) -> Flask:
    """Makes the application of one server process and begins to load its model.

    `shared` is the folder of all server processes for a model that is fetched.

    FAISS is used in this process alone, never in one that forks it: OpenMP threads of the parent would be missing in
    the child, and a search would wait for them for ever.
    """
    plane = DataPlane(CpuTurns(max(1, cpu.budget() // settings.processes)), defaults, settings.euclidean)
    if settings.multi_model:
        memory.return_large_blocks()
        budget = settings.model_memory or int(memory.limit() * _MODEL_SHARE)
        return create_multi_model_app(plane, ModelStore(budget), settings.max_content_length)
    holder = ModelHolder(readiness, slot, partial(memory.room, settings.processes))
    fetching = partial(fetch, settings.model_data, shared) if settings.model_data and shared else None
    threading.Thread(target=holder.load, args=(settings.base / "model", fetching), daemon=True).start()
    # SageMaker's documentation and its local mode spell the strategy differently, and a platform's true likewise.
    strategy = "MultiRecord" if settings.batch == "True" else "MULTI_RECORD"
    return create_app(plane, holder, settings.max_content_length, batch_strategy=strategy)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn, configured from the settings alone."""

    def __init__(self, settings: Settings, defaults: Defaults) -> None:
        self._settings = settings
        self._defaults = defaults
        self._readiness = Readiness(settings.processes)
        self._slot = 0
        self._shared = Path(mkdtemp(prefix="model-")) if settings.model_data else None
        super().__init__()

    def load_config(self) -> None:
        """Sets what differs from gunicorn's defaults."""
        for name, value in {
            "bind": f"0.0.0.0:{self._settings.port}",
            "workers": self._settings.processes,
            "worker_class": "gthread",
            "threads": THREADS,
            "worker_tmp_dir": "/dev/shm",  # noqa: S108 (the heartbeat file: never on a disk that can stall)
            "graceful_timeout": _DRAIN_SECONDS,
            "keepalive": 75,
            "control_socket_disable": True,
            "pre_fork": self._before_fork,
            "child_exit": self._after_exit,
            "on_exit": self._clean,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """Makes the application; gunicorn calls this in each worker process."""
        return _close_after_errors(make_app(self._settings, self._defaults, self._readiness, self._slot, self._shared))

    def _before_fork(self, _arbiter: Arbiter, worker: Worker) -> None:
        self._slot = self._readiness.assign(worker.age)

    def _after_exit(self, _arbiter: Arbiter, worker: Worker) -> None:
        self._readiness.free(worker.age)

    def _clean(self, _arbiter: Arbiter) -> None:
        if self._shared:
            shutil.rmtree(self._shared, ignore_errors=True)


def _close_after_errors(app: WSGIApplication) -> WSGIApplication:
    """Says that the connection will be closed after an error, whose request's body may be unread.

    gunicorn closes such a connection, but leaves it to this to say so.
    """

    def wrapped(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            if status.startswith(("4", "5")):
                start_response.__self__.force_close()  # type: ignore[attr-defined]  # gunicorn's Response
            return start_response(status, headers, *rest)

        return app(environ, start)

    return wrapped


def main(settings: Settings) -> int:
    """Serves until SIGTERM; returns the exit status."""
    try:
        defaults = read_defaults(settings.default_accept, settings.output)
    except UserError as error:
        log.error("%s", error)
        return 2
    if settings.multi_model and settings.model_data:
        log.error("MODEL_DATA_URL: expected none with SAGEMAKER_MULTI_MODEL, whose models come by requests.")
        return 2
    what = "many models" if settings.multi_model else str(settings.model_data or settings.base / "model")
    log.info("Serving %s on port %d with %d process(es).", what, settings.port, settings.processes)
    Server(settings, defaults).run()
    return 0
