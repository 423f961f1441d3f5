"""What one host does for a training job, alone or beside others."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from knn_container import artifact, cpu, index, memory
from knn_container.batch import Float32Array, Int64Array
from knn_container.model import Model
from knn_container.reduction import project_for
from knn_container.sampling import BottomK, Places, Sample, Summary, UInt64Array
from knn_container.search import Timing
from knn_container.training.capacity import Capacity, certain_rows, most_rows
from knn_container.training.channels import File
from knn_container.training.division import Piece
from knn_container.training.evaluation import Evaluation
from knn_container.training.job import Job
from knn_container.training.reading import read
from knn_container.training.stopping import Stopper
from knn_container.training.telemetry import Every, Telemetry

_MOST_READERS = 8  # each takes memory of its own

log = logging.getLogger(__name__)


class Host:
    """One host's files, its part of the sample, and the model by which it scores its test rows.

    Its methods are called one after another, on other hosts by way of `cluster`: what they take and give travels.

    Attributes:
        task: the job, as this host sees it.
        stop: tells when to end the reading early.
        telemetry: writes this host's lines.
        model: set before test rows are scored.
    """

    def __init__(self, task: Job, stop: Stopper, telemetry: Telemetry) -> None:
        self.task = task
        self.stop = stop
        self.telemetry = telemetry
        self.model: Model | None = None
        self._speeding_up: threading.Thread | None = None
        given = task.hyperparameters
        self._sampler = BottomK(given.sample_size, given.seed)
        self._received: TemporaryDirectory[str] | None = None

    @property
    def name(self) -> str:
        """As `resourceconfig.json` has it."""
        return self.task.host

    @property
    def leads(self) -> bool:
        """Whether this host builds the index."""
        return self.name == self.task.hosts[0]

    def stopped(self) -> bool:
        """Whether SIGTERM has come to this host."""
        return self.stop.requested

    def list_files(self, channel: str, marked: bool) -> list[File]:
        """The files of a channel that this host sees."""
        return self.task.channels[channel].files(marked=marked)

    def sample(self, pieces: Sequence[Piece], size: int) -> tuple[Summary, int | None]:
        """Reads pieces of the train channel once and keeps their rows with the smallest keys, projected.

        Args:
            pieces: what to read.
            size: bytes of the whole channel, as far as known.

        Returns:
            What was kept, and the number of features of a row as it came; None if there was no row.

        Raises:
            UserError: names the file and the row that cannot be read, or the sample cannot fit into memory.
        """
        given, channel = self.task.hyperparameters, self.task.channels["train"]
        size = size if self.leads else sum(piece.size for piece in pieces)
        started, batches, tick, width = time.perf_counter(), 0, Every(5), None
        readers = max(min(cpu.budget(), _MOST_READERS), channel.readers)
        for piece, start, batch in read(channel, pieces, given.mini_batch_size, given.feature_dim, readers):
            if width is None:
                self.telemetry.records("init_train_data_iter", len(batch), 1)
                width = batch.features.shape[1]
                reduction, padded = given.options(width).reduction, index.padded(width, given.pq_m)
                project = project_for(reduction, width, padded)
                capacity = self.capacity(reduction.target if reduction else padded)
                capacity.check(min(given.sample_size, certain_rows(size, width, channel.number_bytes)))
            self._sampler.add(piece.place, start, batch.features, batch.labels, uids=batch.uids, project=project)
            capacity.check(len(self._sampler))
            batches += 1
            if tick.due():
                rows = self._sampler.rows_read
                log.info("Read %d rows, %.0f rows/second.", rows, rows / tick.seconds())
        self.telemetry.records("training_data_iter", self._sampler.rows_read, batches)
        self.telemetry.progress(100.0)
        self.telemetry.throughput(self._sampler.rows_read, time.perf_counter() - started)
        return self._sampler.summary(), width

    def capacity(self, columns: int) -> Capacity:
        """How many rows of so many columns this host can hold."""
        return Capacity(memory.limit(), self.task.hyperparameters.index_spec if self.leads else None, columns)

    def count(self, keys: UInt64Array) -> Int64Array:
        """How many rows that are kept have at most each of (m,) keys."""
        return self._sampler.count(keys)

    def settle(self, limit: int) -> Places:
        """Forgets rows with keys above `limit` and tells where the rows left come from."""
        return self._sampler.settle(limit)

    def rows(self, start: int, stop: int) -> Float32Array:
        """Some of the rows left, by their numbers in data order."""
        return self._sampler.rows(start, stop)

    def hand_over(self) -> Sample:
        """Gives all that this host has sampled, if nobody else has, and keeps nothing of it."""
        sample = self._sampler.finish()
        self.forget()
        return sample

    def forget(self) -> None:
        """Frees the sample."""
        self._sampler = BottomK(0, 0)

    def receive(self, name: str, block: bytes) -> None:
        """Adds bytes to a file of the model."""
        self._received = self._received or TemporaryDirectory(prefix="knn-model-")
        with (Path(self._received.name) / name).open("ab") as file:
            file.write(block)

    def _load(self) -> Model:
        if not self._received:
            raise RuntimeError("no model has been received")
        with self._received as folder:  # the model stays readable when its files are gone
            self.model, _ = artifact.load(Path(folder))
        return self.model

    def speed_up(self, pieces: Sequence[Piece]) -> threading.Thread:
        """Begins, in the background, to make faster what pieces of the test channel will be scored by.

        Returns:
            Who does it; `score` waits for it.
        """
        model = self.model or self._load()
        room, expected = memory.room(), most_rows(sum(piece.size for piece in pieces), model.options.dimension)
        self._speeding_up = threading.Thread(target=_speed_up, args=(model, room, expected), daemon=True)
        with _unneeded():
            model.compare()
            self._speeding_up.start()
        return self._speeding_up

    def score(self, pieces: Sequence[Piece], seed: int) -> tuple[Evaluation, float, tuple[Timing, ...]]:
        """Predicts the rows of pieces of the test channel.

        Args:
            pieces: what to read.
            seed: differs between the hosts of a job.

        Returns:
            How good the predictions are, the seconds that they took, and what the choice of an engine rests on.

        Raises:
            UserError: names the file and the row that cannot be read.
        """
        speeding_up = self._speeding_up or self.speed_up(pieces)
        while speeding_up.is_alive() and not self.stop.requested:
            speeding_up.join(0.1)
        model = self.model or self._load()
        given, channel = self.task.hyperparameters, self.task.channels["test"]
        evaluation = Evaluation(model.options.predictor_type, seed)
        started, predicting, batches, tick = time.perf_counter(), 0.0, 0, Every(5)
        # One reader: what is added up comes in the same order every time.
        for _, _, batch in read(channel, pieces, given.mini_batch_size, model.options.dimension, readers=1):
            asked = time.perf_counter()
            answer = model.predict(batch.features)
            predicting += time.perf_counter() - asked
            evaluation.add(model.vote, batch.labels, answer.predicted, answer.neighbours.rows, answer.weights)
            batches += 1
            if tick.due():
                log.info("Scored %d test rows.", evaluation.score.rows)
        self.telemetry.records("test_data_iter", evaluation.score.rows, batches)
        log.info("Scored %d test rows in %.1f second(s)", evaluation.score.rows, time.perf_counter() - started)
        return evaluation, predicting, model.timings


def _speed_up(model: Model, room: int, queries: int) -> None:
    with _unneeded():
        model.speed_up(room, queries)


@contextmanager
def _unneeded() -> Iterator[None]:
    """Takes a failure for what it is: the model is good without."""
    try:
        yield
    except Exception:
        log.exception("The search of the test rows is no faster than it was.")
