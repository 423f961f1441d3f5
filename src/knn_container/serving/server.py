"""Starts gunicorn with the application."""

import logging
import threading

from flask import Flask
from gunicorn.app.base import BaseApplication

from knn_container import cpu
from knn_container.serving.app import create_app
from knn_container.serving.dataplane import CpuTurns, DataPlane, ModelHolder
from knn_container.settings import Settings

log = logging.getLogger(__name__)

# SageMaker ends a container 30 seconds after SIGTERM.
_DRAIN_SECONDS = 25
# A request waits in its thread for a CPU; there are this many, so that one is always free for /ping.
_THREADS = 128


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn, configured from the settings alone."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Sets what differs from gunicorn's defaults."""
        for name, value in {
            "bind": f"0.0.0.0:{self._settings.port}",
            "workers": self._settings.workers,
            "worker_class": "gthread",
            "threads": _THREADS,
            "worker_tmp_dir": "/dev/shm",  # noqa: S108 (the heartbeat file: never on a disk that can stall)
            "graceful_timeout": _DRAIN_SECONDS,
            "keepalive": 75,
            "control_socket_disable": True,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Makes the application in a worker process and loads its model beside it.

        FAISS is used after the fork alone: OpenMP threads of the parent would be missing in the child, and a
        search would wait for them for ever.
        """
        holder = ModelHolder()
        cpus = max(1, cpu.budget() // self._settings.workers)
        threading.Thread(target=holder.load, args=(self._settings.base / "model",), daemon=True).start()
        return create_app(DataPlane(holder, CpuTurns(cpus)), self._settings.max_content_length)


def main(settings: Settings) -> int:
    """Serves until SIGTERM; returns the exit status."""
    log.info("Serving %s on port %d with %d process(es).", settings.base / "model", settings.port, settings.workers)
    Server(settings).run()
    return 0
