"""The models of a server process: one, or many that come and go."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from knn_container import archive, artifact, checksums, heap, official
from knn_container.errors import ArtifactError, PlatformError, RequestError, UserError
from knn_container.memory import SharedBlock
from knn_container.model import Model
from knn_container.serving.preparation import ARCHIVE, Preparation, is_packed
from knn_container.serving.processes import Processes

log = logging.getLogger(__name__)

_FETCH_AGAIN = 30  # seconds


@contextmanager
def located(folder: Path) -> Iterator[Path]:
    """Lends the model's folder: this one, or a temporary one into which its `model.tar.gz` is unpacked.

    What is mapped into memory from a temporary folder stays there when the folder goes.

    Raises:
        ArtifactError: the archive cannot be unpacked.
    """
    if not is_packed(folder):
        yield folder
        return
    with TemporaryDirectory(prefix="model-") as unpacked:
        archive.unpack(folder / ARCHIVE, Path(unpacked))
        yield Path(unpacked)


def load_model(folder: Path, check: artifact.Check = checksums.check) -> tuple[Model, str]:
    """Reads a model of ours, or of SageMaker's built-in k-NN, and warms it.

    Args:
        folder: where it is.
        check: as for `artifact.load`.

    Returns:
        The model, and what it is in a few words.

    Raises:
        ArtifactError: there is none that can be used.
    """
    try:
        if official.is_official(folder) and not (folder / artifact.MANIFEST).exists():
            model, what = official.load(folder), "a model of SageMaker's built-in k-NN"
        else:
            model, manifest = artifact.load(folder, check)
            what = f"{manifest.index_type} with {manifest.rows} rows"
    except UserError as error:
        raise ArtifactError(str(error)) from error
    model.warm_up()
    return model, what


def memory_needed(folder: Path) -> int:
    """The bytes that a model takes once it is loaded, by the sizes of its files.

    Raises:
        ArtifactError: its manifest cannot be read.
    """
    files = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    return files + (artifact.tree_bytes(folder) if (folder / artifact.MANIFEST).exists() else 0)


def own_bytes(folder: Path) -> int:
    """The bytes of a model that each process holds by itself: all but its files, if FAISS and numpy map them.

    Raises:
        ArtifactError: there is none.
    """
    if is_packed(folder):
        return (folder / ARCHIVE).stat().st_size
    return memory_needed(folder) if official.is_official(folder) else artifact.tree_bytes(folder)


class ModelHolder:
    """The model of one server process: not there yet, there, or not to be had and why.

    Args:
        processes: what the server processes tell each other.
        slot: this one's.
        room: tells how many bytes the model may take for what only makes it faster.
        block: memory of all server processes, for some of that.
    """

    def __init__(
        self,
        processes: Processes | None = None,
        slot: int = 0,
        room: Callable[[], int] = lambda: 0,
        block: SharedBlock | None = None,
    ) -> None:
        self._processes = processes or Processes()
        self._slot = slot
        self._room = room
        self._block = block or SharedBlock()
        self._model: Model | None = None
        self._reason = "the model is being loaded"

    def load(self, preparation: Preparation) -> None:
        """Loads and warms the model; a failure is kept as the reason that `get` gives.

        Args:
            preparation: brings the model. What it cannot do for a reason of the machine's is tried again every 30
                seconds.
        """
        try:
            folder = self._brought(preparation)
            key = checksums.signature(folder) if folder.is_dir() else b""
            model, what = load_model(folder, preparation.check)
        except (ArtifactError, UserError) as error:
            self._reason = str(error)
            log.error("The model cannot be served: %s", error)
        except Exception as error:
            self._reason = f"the model cannot be loaded: {error}"
            log.exception("The model cannot be loaded.")
        else:
            self._model = model
            self._processes.mark_ready(self._slot)
            log.info("Ready: %s, k=%d.", what, model.options.k)
            with preparation.one_at_a_time():
                model.speed_up(self._room(), share=partial(self._block.array, key=key))
            gc.freeze()
            heap.keep_large_blocks()

    def _brought(self, preparation: Preparation) -> Path:
        if preparation.location:
            self._reason = "the model is being fetched"
        while True:
            try:
                folder = preparation.bring()
            except PlatformError as error:
                self._reason = f"the model cannot be fetched yet: {error}"
                log.error("The model is fetched again in %d seconds: %s", _FETCH_AGAIN, error)
                time.sleep(_FETCH_AGAIN)
            else:
                self._reason = "the model is being loaded"
                return folder

    def check_ready(self) -> None:
        """Checks that every server process has its model.

        Raises:
            RequestError: 503, says why not.
        """
        self.get()
        if missing := self._processes.missing():
            raise RequestError(503, f"Not ready: {missing} more server processes are loading the model.")

    def get(self) -> Model:
        """Returns the model.

        Raises:
            RequestError: 503, it is not there; says why.
        """
        if self._model is None:
            raise RequestError(503, f"Not ready: {self._reason}")
        return self._model


@dataclass
class _Entry:
    """A model that is loaded or being loaded.

    Attributes:
        url: its folder.
        bytes: what it takes of the budget.
        model: None while it is being loaded.
        users: requests that use it now.
        leaving: whether it takes no more of them.
    """

    url: str
    bytes: int
    model: Model | None = None
    users: int = 0
    leaving: bool = False
    free: threading.Condition = field(default_factory=threading.Condition)


class ModelStore:
    """Many models below one memory budget, as a multi-model endpoint loads and unloads them.

    Args:
        budget: bytes that all models together may take.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def load(self, name: str, folder: Path) -> None:
        """Loads and warms a model.

        Raises:
            RequestError: 409, the name is taken; 507, the budget has no room; 400, the folder holds no model that
                can be used.
        """
        self._check_free(name)
        try:
            with located(folder) as here:
                self._reserve(name, folder, memory_needed(here))
                self._fill(name, here)
        except ArtifactError as error:
            raise RequestError(400, f"The model {name!r} cannot be loaded: {error}") from error

    def _reserve(self, name: str, folder: Path, needed: int) -> None:
        with self._lock:
            self._check_free(name)
            used = sum(entry.bytes for entry in self._entries.values())
            if used + needed > self._budget:
                raise RequestError(
                    507,
                    f"The model {name!r} needs {needed} bytes; {used} of {self._budget} are in use. "
                    "Unload models, use a larger instance, or set KNN_MODEL_MEMORY.",
                )
            self._entries[name] = _Entry(str(folder), needed)

    def _check_free(self, name: str) -> None:
        if name in self._entries:
            raise RequestError(409, f"The model {name!r} is loaded already.")

    def _fill(self, name: str, folder: Path) -> None:
        try:
            model, _ = load_model(folder)
            model.speed_up(0, queries=0)  # by what needs no building
            self._entries[name].model = model
        except BaseException:
            with self._lock:
                del self._entries[name]
            raise

    def unload(self, name: str) -> None:
        """Forgets a model once no request uses it; its memory is free then.

        Raises:
            RequestError: 404, it is not loaded.
        """
        with self._lock:
            entry = self._ready(name)[0]
            entry.leaving = True
        with entry.free:
            entry.free.wait_for(lambda: entry.users == 0)
        with self._lock:
            del self._entries[name]
        entry.model = None
        gc.collect()
        heap.return_freed()  # up to 70 MB were seen to stay otherwise

    @contextmanager
    def use(self, name: str) -> Iterator[Model]:
        """Lends a model.

        Raises:
            RequestError: 404, it is not loaded.
        """
        with self._lock:
            entry, model = self._ready(name)
            with entry.free:
                entry.users += 1
        try:
            yield model
        finally:
            with entry.free:
                entry.users -= 1
                entry.free.notify_all()

    def describe(self, name: str) -> tuple[str, str]:
        """The name and the folder of a model.

        Raises:
            RequestError: 404, it is not loaded.
        """
        with self._lock:
            return name, self._ready(name)[0].url

    def list(self) -> list[tuple[str, str]]:
        """The names and the folders of the models that are loaded, by name."""
        with self._lock:
            return sorted(
                (name, entry.url) for name, entry in self._entries.items() if entry.model and not entry.leaving
            )

    def _ready(self, name: str) -> tuple[_Entry, Model]:
        entry = self._entries.get(name)
        if entry is None or entry.model is None or entry.leaving:
            raise RequestError(404, f"The model {name!r} is not loaded.")
        return entry, entry.model
