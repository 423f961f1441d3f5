"""The training job from its first line to its last."""

import errno
import logging
import signal
import time
from types import FrameType

import faiss

from knn_container import archive, artifact, index, job
from knn_container.artifact import Manifest
from knn_container.channels import Channel
from knn_container.errors import AlgorithmError, PlatformError, TrainingError, UserError
from knn_container.evaluation import score_for
from knn_container.hyperparameters import Hyperparameters
from knn_container.job import Folders, Job
from knn_container.model import Model
from knn_container.sampling import BottomK, Sample
from knn_container.settings import Settings

log = logging.getLogger(__name__)


def main(settings: Settings) -> int:
    """Runs the job below `settings.base` and returns its exit status; a failure leaves the failure file."""
    folders = Folders(settings.base)
    signal.signal(signal.SIGTERM, _stop)
    try:
        train(folders, pack=not settings.platform_packs_the_model)
    except Exception as error:
        failure = _classify(error)
        log.log(logging.ERROR, "%s: %s", failure.label, failure, exc_info=isinstance(failure, AlgorithmError))
        try:
            job.write_failure(folders, failure)
        except OSError as unwritable:
            log.error("The failure file cannot be written: %s", unwritable)
        return 1
    return 0


def train(folders: Folders, *, pack: bool) -> None:
    """Samples the train channel, builds the index, leaves the model, then scores the test channel.

    Raises:
        TrainingError: the job cannot be done; no manifest is left unless the model is whole.
    """
    job.clear(folders)
    task = job.read(folders)
    log.info("Final configuration: %s", task.hyperparameters)
    sample = _sample(task.train, task.hyperparameters)
    model = _build_and_save(task, sample, folders)
    del sample
    if pack:
        archive.pack(folders.model, folders.archive)
        log.info("The model is packed: %s", folders.archive)
    if task.test is not None:
        _score(model, task.test, task)


def _sample(channel: Channel, options: Hyperparameters) -> Sample:
    started = time.perf_counter()
    reservoir = BottomK(options.sample_size, options.seed)
    width = options.feature_dim
    files = channel.files()
    for path in files:
        reservoir.start_file(path)
        for batch in channel.batches(path, options.mini_batch_size, width):
            width = batch.features.shape[1]
            reservoir.add(batch.features, batch.labels)
    sample = reservoir.finish()
    if not len(sample):
        raise UserError(f"The channel {channel.name!r} has {len(files)} files and not one row: {', '.join(files[:5])}.")
    if len(sample) < options.k:
        raise UserError(
            f"k is {options.k} and the sample has {len(sample)} rows (sample_size {options.sample_size}, "
            f"{sample.rows_read} rows in the channel). Lower k or give more rows."
        )
    seconds = time.perf_counter() - started
    log.info(
        "Sampled %d of %d rows with %d features from %d files in %.1f seconds (%.0f rows/second).",
        *(len(sample), sample.rows_read, width, len(files), seconds, sample.rows_read / seconds),
    )
    return sample


def _build_and_save(task: Job, sample: Sample, folders: Folders) -> Model:
    options = task.hyperparameters
    width = sample.features.shape[1]
    started = time.perf_counter()
    log.info("Building %s on %d rows...", options.index_type, len(sample))
    built: faiss.Index = index.build(options.index_spec, len(sample), width, sample.blocks)
    log.info("...Finished building the index in %.1f seconds.", time.perf_counter() - started)
    manifest = Manifest(
        k=options.k,
        predictor_type=options.predictor_type,
        index_type=options.index_type,
        metric=options.index_metric.value,
        nprobe=options.nprobe,
        dimension=width,
        rows=len(sample),
        rows_read=sample.rows_read,
        label_type=str(sample.labels.dtype),
        hyperparameters=task.given,
    )
    artifact.save(folders.model, manifest, built, sample.labels, sample.ids)
    log.info("The model is complete: %s", folders.model)
    return Model(
        built,
        sample.labels,
        sample.ids,
        metric=options.index_metric,
        nprobe=options.nprobe,
        k=options.k,
        predictor_type=options.predictor_type,
    )


def _score(model: Model, channel: Channel, task: Job) -> None:
    options = task.hyperparameters
    score = score_for(options.predictor_type)
    started = time.perf_counter()
    for path in channel.files():
        for batch in channel.batches(path, options.mini_batch_size, model.dimension):
            score.add(batch.labels, model.predict(batch.features).predicted)
    if not score.rows:
        raise UserError(f"The channel {channel.name!r} has not one row.")
    log.info("Scored %d test rows in %.1f seconds.", score.rows, time.perf_counter() - started)
    # The built-in algorithm's lines: the tuner's regular expressions look for the second kind.
    for name, value in score.result().items():
        log.info("#test_score (%s) : %s", task.host, (name, value))
    for name, value in score.result().items():
        kind = "<loss>" if name == "mse" else "<score>"
        log.info("#quality_metric: host=%s, test %s %s=%s", task.host, name, kind, value)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise PlatformError(f"Stopped by {signal.Signals(number).name} before the job was done.")


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
