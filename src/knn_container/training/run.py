"""The training job from its first line to its last."""

import errno
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import faiss

from knn_container import archive, artifact, index
from knn_container.artifact import Manifest
from knn_container.batch import Float32Array
from knn_container.errors import AlgorithmError, PlatformError, ReadingStopped, TrainingError, UserError
from knn_container.model import Model, ModelOptions
from knn_container.reduction import Projection, project_for
from knn_container.sampling import BottomK, Sample
from knn_container.settings import Settings
from knn_container.training import job, report
from knn_container.training.channels import Channel
from knn_container.training.evaluation import Evaluation
from knn_container.training.job import Folders, Job
from knn_container.training.stopping import Stopper
from knn_container.training.telemetry import Every, Telemetry

_BLOCK_ROWS = 1 << 14  # rows that are looked at together

log = logging.getLogger(__name__)


def main(settings: Settings) -> int:
    """Runs the job below `settings.base` and returns its exit status; a failure leaves the failure file."""
    folders = Folders(settings.base)
    stop = Stopper()
    stop.listen()
    try:
        train(folders, stop=stop, pack=not settings.platform_packs_the_model)
    except Exception as error:
        failure = _classify(error)
        log.log(logging.ERROR, "%s: %s", failure.label, failure, exc_info=isinstance(failure, AlgorithmError))
        try:
            job.write_failure(folders, failure)
        except OSError as unwritable:
            log.error("The failure file cannot be written: %s", unwritable)
        return 1
    return 0


def train(folders: Folders, *, pack: bool, stop: Stopper | None = None) -> None:
    """Samples the train channel, builds the index, leaves the model, then scores the test channel.

    Args:
        folders: where the job is.
        pack: whether to leave `model.tar.gz` too.
        stop: tells when to end the reading early.

    Raises:
        TrainingError: the job cannot be done; no manifest is left unless the model is whole.
    """
    stop = stop or Stopper()
    job.clear(folders)
    report.remove(folders.report)
    task = job.read(folders, stop)
    log.info("Final configuration: %s", {name: str(value) for name, value in vars(task.hyperparameters).items()})
    log.info("Checkpoint loading and saving are disabled.")
    telemetry = Telemetry(task.host)
    telemetry.lap("initialize.time")
    sample, options = _sample(task, stop, telemetry)
    telemetry.lap("update.time")
    stopped_early = stop.requested
    built = _build(task, sample)
    telemetry.lap("finalize.time")
    manifest = Manifest(
        options=options,
        index_type=task.hyperparameters.index_type,
        rows=len(sample),
        zero_rows=index.zero_rows(task.hyperparameters.index_spec, sample.blocks(_BLOCK_ROWS)),
        rows_read=sample.rows_read,
        stopped_early=stopped_early,
        label_type=str(sample.labels.dtype),
        hyperparameters=task.given,
    )
    labels, ids = sample.labels, sample.ids
    del sample  # the index has the rows now
    model = Model(built, labels, ids, options, manifest.zero_rows)
    artifact.save(folders.model, manifest, built, labels, ids)
    if pack:
        archive.pack(folders.model, folders.archive)
    telemetry.lap("model.serialize.time")
    telemetry.laps()
    log.info("The model is complete: %s", folders.archive if pack else folders.model)
    stop.complete()
    _score(model, task, telemetry, stop, folders.report)
    telemetry.end()


def _sample(task: Job, stop: Stopper, telemetry: Telemetry) -> tuple[Sample, ModelOptions]:
    """Reads the train channel once and keeps a uniform sample of its rows, projected."""
    given = task.hyperparameters
    reservoir = BottomK(given.sample_size, given.seed)
    options: ModelOptions | None = None
    project: Projection
    started, batches, tick = time.perf_counter(), 0, Every(5)
    with suppress(ReadingStopped):
        for path in task.train.files():
            reservoir.start_file(path)
            width = options.dimension if options else given.feature_dim
            for batch in task.train.batches(path, given.mini_batch_size, width):
                if options is None:
                    telemetry.records("init_train_data_iter", len(batch), 1)
                    options = given.options(width := batch.features.shape[1])
                    project = project_for(options.reduction, width, index.padded(width, given.pq_m))
                reservoir.add(batch.features, batch.labels, batch.uids, project)
                batches += 1
                if tick.due():
                    rate = reservoir.rows_read / tick.seconds()
                    log.info("Read %d rows, %.0f rows/second.", reservoir.rows_read, rate)
    if options is None:
        raise UserError("SIGTERM came before the first row was read." if stop.requested else _no_rows(task.train))
    sample = reservoir.finish()
    if len(sample) < given.k:
        raise UserError(
            f"k is {given.k} and the sample has {len(sample)} rows (sample_size {given.sample_size}, "
            f"{sample.rows_read} rows read). Lower k or give more rows."
        )
    telemetry.records("training_data_iter", sample.rows_read, batches)
    telemetry.progress(100.0)
    telemetry.throughput(sample.rows_read, time.perf_counter() - started)
    log.info("Sampled %d of %d rows with %d features.", len(sample), sample.rows_read, options.dimension)
    return sample, options


def _build(task: Job, sample: Sample) -> faiss.Index:
    started, tick = time.perf_counter(), Every(5)

    def blocks(rows: int) -> Iterator[Float32Array]:
        for number, block in enumerate(sample.blocks(rows)):
            if tick.due():
                log.info("%d of %d rows are in the index's hands.", number * rows, len(sample))
            yield block

    log.info("Training index...")
    built = index.build(task.hyperparameters.index_spec, len(sample), sample.features.shape[1], blocks)
    seconds = time.perf_counter() - started
    log.info("...Finished training index in %.1f second(s)", seconds)
    return built


def _score(model: Model, task: Job, telemetry: Telemetry, stop: Stopper, folder: Path) -> None:
    """Predicts the test channel, if there is one, writes how well, and leaves a report below `folder`."""
    channel, options, given = task.test, model.options, task.hyperparameters
    if channel is None or stop.requested:
        return
    evaluation = Evaluation(options.predictor_type, model.vote)
    started, predicting, batches, tick = time.perf_counter(), 0.0, 0, Every(5)
    with suppress(ReadingStopped):
        for path in channel.files():
            for batch in channel.batches(path, given.mini_batch_size, options.dimension):
                asked = time.perf_counter()
                answer = model.predict(batch.features)
                predicting += time.perf_counter() - asked
                evaluation.add(batch.labels, answer.predicted, answer.neighbours.rows, answer.weights)
                batches += 1
                if tick.due():
                    log.info("Scored %d test rows.", evaluation.score.rows)
    if stop.requested:
        return
    rows = evaluation.score.rows
    if not rows:
        raise UserError(_no_rows(channel))
    telemetry.records("test_data_iter", rows, batches)
    log.info("Scored %d test rows in %.1f second(s)", rows, time.perf_counter() - started)
    telemetry.scores(evaluation.score.result())
    k, score = evaluation.best()
    log.info("Best k of 1..%d: %d, %s %.4g", options.k, k, evaluation.score.name, score)
    report.write(folder, evaluation, options, given.index_type, predicting)


def _no_rows(channel: Channel) -> str:
    files = channel.files()
    return f"The channel {channel.name!r} has {len(files)} files and not one row: {', '.join(files[:5])}."


def _classify(error: Exception) -> TrainingError:
    """Says whose failure it is."""
    if isinstance(error, TrainingError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PlatformError(f"The disk is full: {error}. Give the job a larger volume.")
    if isinstance(error, OSError):
        return PlatformError(str(error))
    if isinstance(error, MemoryError):
        return PlatformError(f"Out of memory: {error}. Use a larger machine or lower sample_size.")
    return AlgorithmError(f"{type(error).__name__}: {error}")
