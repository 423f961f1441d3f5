"""Ways to serve: ours, a plain Flask app around other libraries, and MLServer with scikit-learn."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import program
from benchmarks.load import CSV, Route
from benchmarks.program import Served
from benchmarks.programs import ROOT, free_port, run
from benchmarks.venvs import python_of

_ENGINES = ROOT / "benchmarks" / "engines"
OURS, PLAIN, MLSERVER = "knn-container", "Flask, FAISS Flat as it comes", "MLServer, scikit-learn"


@dataclass(frozen=True)
class Way:
    """A way to serve: how a server is started, and how it is asked."""

    title: str
    start: Callable[[Path], AbstractContextManager[Served]]
    path: str = "/invocations"
    content_type: str = CSV
    bodies: str = "bodies.csv"

    def route(self, folder: Path, server: Served) -> Route:
        """How it is loaded."""
        return Route(server.port, self.path, folder / self.bodies, self.content_type)


def plain(title: str, venv: str, module: str, maker: str, setting: Any = None) -> Way:
    """A plain Flask app around a library: gunicorn with one process of eight threads."""

    @contextmanager
    def start(folder: Path) -> Iterator[Served]:
        port = free_port()
        arguments = ", ".join(map(repr, (module, maker, str(folder), setting)))
        gunicorn = [python_of(venv), "-m", "gunicorn", "--worker-class=gthread", "--workers=1", "--threads=8"]
        command = [*gunicorn, "--no-control-socket", "--timeout=300", f"--bind=127.0.0.1:{port}"]
        log = folder / f"{venv}-{maker}.log"
        with program.running(
            title, [*command, f"plain_app:make({arguments})"], port, health="/ping", log=log, cwd=_ENGINES
        ) as server:
            yield server

    return Way(title, start)


@contextmanager
def _mlserver(folder: Path) -> Iterator[Served]:
    python, home = python_of("mlserver"), folder / "mlserver"
    home.mkdir()
    ports = {name: free_port() for name in ("http_port", "grpc_port", "metrics_port")}
    model = {"name": "knn", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "model.joblib"}}
    run(python, _ENGINES / "train_sklearn.py", folder / "rows.npy", folder / "labels.npy", home / "model.joblib")
    (home / "settings.json").write_text(json.dumps(ports))
    (home / "model-settings.json").write_text(json.dumps(model))
    command: list[str | Path] = [python.with_name("mlserver"), "start", home]
    health = "/v2/models/knn/ready"
    log = folder / "mlserver.log"
    with program.running(MLSERVER, command, ports["http_port"], health=health, log=log, cwd=home) as server:
        yield server


WAYS = (
    Way(OURS, lambda folder: program.serving(folder / "job", OURS)),
    plain(PLAIN, "faiss", "with_faiss", "Flat"),
    plain("Flask, scikit-learn", "scikit-learn", "with_sklearn", "Auto"),
    plain("Flask, scikit-learn-intelex", "scikit-learn-intelex", "with_sklearnex", "Auto"),
    plain("Flask, usearch (approximate)", "usearch", "with_usearch", "HNSW", 64),
    Way(MLSERVER, _mlserver, "/v2/models/knn/infer", "application/json", "bodies.jsonl"),
)
