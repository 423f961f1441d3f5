"""What the server does, apart from HTTP: holds the model, takes turns at the CPUs, answers requests."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import faiss

from knn_container import archive, artifact
from knn_container.errors import ArtifactError, RequestError
from knn_container.formats.mediatype import MediaType
from knn_container.model import Model
from knn_container.serving import bodies
from knn_container.serving.negotiation import Answer

log = logging.getLogger(__name__)

ARCHIVE = "model.tar.gz"


def locate_model(folder: Path) -> Path:
    """Finds the model's folder: this one, or a temporary one into which its `model.tar.gz` is unpacked.

    Raises:
        ArtifactError: the archive cannot be unpacked.
    """
    packed = folder / ARCHIVE
    if (folder / artifact.MANIFEST).exists() or not packed.is_file():
        return folder
    unpacked = Path(mkdtemp(prefix="model-"))
    archive.unpack(packed, unpacked)
    return unpacked


class ModelHolder:
    """The model of one server process: not there yet, there, or not to be had and why."""

    def __init__(self) -> None:
        self._model: Model | None = None
        self._reason = "the model is being loaded"

    def load(self, folder: Path) -> None:
        """Loads and warms the model; a failure is kept as the reason that `get` gives."""
        try:
            model, manifest = artifact.load(locate_model(folder))
            model.warm_up()
        except ArtifactError as error:
            self._reason = str(error)
            log.error("The model cannot be served: %s", error)
        except Exception as error:
            self._reason = f"the model cannot be loaded: {error}"
            log.exception("The model cannot be loaded.")
        else:
            self._model = model
            log.info("Ready: %s with %d rows, k=%d.", manifest.index_type, manifest.rows, model.options.k)

    def get(self) -> Model:
        """Returns the model.

        Raises:
            RequestError: 503, it is not there; says why.
        """
        if self._model is None:
            raise RequestError(503, f"Not ready: {self._reason}")
        return self._model


class CpuTurns:
    """Shares the CPUs among the searches of a process.

    A search alone uses all of them; searches side by side use fewer each, so that threads never outnumber CPUs by
    much. More searches than CPUs wait.
    """

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._slots = threading.BoundedSemaphore(cpus)
        self._lock = threading.Lock()
        self._active = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for a CPU and sets how many OpenMP threads this thread may use."""
        with self._slots:
            with self._lock:
                self._active += 1
                threads = max(1, self._cpus // self._active)
            faiss.omp_set_num_threads(threads)
            try:
                yield
            finally:
                with self._lock:
                    self._active -= 1


class DataPlane:
    """Answers requests with the model; safe to use from several threads at once."""

    def __init__(self, holder: ModelHolder, turns: CpuTurns) -> None:
        self._holder = holder
        self._turns = turns

    def check_ready(self) -> None:
        """Raises RequestError 503, with the reason, unless there is a model."""
        self._holder.get()

    def invoke(self, content_type: MediaType, body: bytes, answer: Answer) -> bytes:
        """Answers one request with one search.

        Raises:
            RequestError: its status says what kind, its text what was expected and what came.
        """
        model = self._holder.get()
        features = bodies.decode(content_type, body, model.options.dimension)
        with self._turns.turn():
            predictions = model.predict(features)
        return bodies.encode(answer, model, predictions)
