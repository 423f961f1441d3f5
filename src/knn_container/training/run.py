"""The training job from its first line to its last."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from knn_container import archive, artifact, cpu
from knn_container.artifact import Manifest
from knn_container.errors import AlgorithmError, UserError
from knn_container.model import Model, ModelOptions
from knn_container.sampling import Sample
from knn_container.settings import Settings
from knn_container.training import job, report
from knn_container.training.building import build
from knn_container.training.channels import Channel
from knn_container.training.collecting import collect
from knn_container.training.division import Piece, divide
from knn_container.training.evaluation import Evaluation
from knn_container.training.failures import classify
from knn_container.training.host import Host
from knn_container.training.hosts import Alone, Hosts
from knn_container.training.job import Folders
from knn_container.training.stopping import Stopper
from knn_container.training.telemetry import Telemetry

_BLOCK = 1 << 26  # bytes of a model that are sent together

Pieces = Mapping[str, Sequence[Piece]]  # by host

log = logging.getLogger(__name__)


def main(settings: Settings) -> int:
    """Runs the job below `settings.base` and returns its exit status; a failure leaves the failure file."""
    folders = Folders(settings.base)
    stop = Stopper()
    stop.listen()
    try:
        train(
            folders,
            stop=stop,
            pack=not settings.platform_packs_the_model,
            startup_seconds=settings.startup_seconds,
        )
    except Exception as error:
        failure = classify(error)
        log.log(logging.ERROR, "%s: %s", failure.label, failure, exc_info=isinstance(failure, AlgorithmError))
        try:
            job.write_failure(folders, failure)
        except OSError as unwritable:
            log.error("The failure file cannot be written: %s", unwritable)
        return 1
    return 0


def train(folders: Folders, *, pack: bool, stop: Stopper | None = None, startup_seconds: float = 600) -> None:
    """Does this host's part of a job; the model is complete when it returns, whatever the host.

    Args:
        folders: where the job is.
        pack: whether to leave `model.tar.gz` too.
        stop: tells when to end the reading early.
        startup_seconds: how long to wait for other hosts.

    Raises:
        TrainingError: the job cannot be done; no manifest is left unless the model is whole.
    """
    stop = stop or Stopper()
    job.clear(folders)
    report.remove(folders.report)
    task = job.read(folders, stop, publish=pack)
    log.info("Final configuration: %s", {name: str(value) for name, value in vars(task.hyperparameters).items()})
    log.info("Checkpoint loading and saving are disabled.")
    telemetry = Telemetry(task.host)
    telemetry.lap("initialize.time")
    host = Host(task, stop, telemetry)
    if len(task.hosts) == 1:
        _lead(Alone(host), host, folders, pack=pack)
        return
    from knn_container.training import cluster  # noqa: PLC0415 (one host alone does without Dask)

    if not host.leads:
        cluster.follow(host, startup_seconds)
        return
    with cluster.lead(host, startup_seconds) as hosts:
        _lead(hosts, host, folders, pack=pack)


def _lead(hosts: Hosts, host: Host, folders: Folders, *, pack: bool) -> None:
    """Samples the train channel, builds the index, leaves the model, then has the test channel scored."""
    task, stop, telemetry = host.task, host.stop, host.telemetry
    if task.destination:
        task.destination.check()
    pieces = {name: _divide(hosts, channel) for name, channel in task.channels.items()}
    sample, options = _sample(hosts, host, pieces["train"])
    telemetry.lap("update.time")
    stopped_early = _stopped(hosts)
    built = build(task.hyperparameters, sample, options, lambda: stopped_early or stop.requested)
    host.model = model = Model(built.index, sample.labels, sample.ids, built.options, built.zero_rows)
    test = {} if stopped_early else pieces.get("test", {})
    if test.get(host.name) and cpu.budget() > 1 and not stop.requested:
        host.speed_up(test[host.name])
    telemetry.lap("finalize.time")
    manifest = Manifest(
        options=built.options,
        index_type=built.spec.index_type,
        rows=len(sample),
        zero_rows=built.zero_rows,
        rows_read=sample.rows_read,
        stopped_early=stopped_early,
        label_type=str(sample.labels.dtype),
        hyperparameters=task.given,
        recall=built.recall,
    )
    del sample  # the index has the rows now
    artifact.save(folders.model, manifest, built.index, model.labels, model.ids)
    if pack:
        archive.pack(folders.model, folders.archive)
    telemetry.lap("model.serialize.time")
    telemetry.laps()
    log.info("The model is complete: %s", folders.archive if pack else folders.model)
    stop.complete()
    if task.destination:
        task.destination.publish(folders.archive)
    report.write_index(folders.report, built, manifest.rows, task.hyperparameters)
    if test and not _stopped(hosts):
        report.prepare()
        _score(hosts, host, model, folders, pieces=test, index_type=manifest.index_type)
    if task.destination and report.is_there(folders.report):
        archive.pack(folders.report, folders.report_archive)
        task.destination.publish(folders.report_archive)
    telemetry.end()


def _sample(hosts: Hosts, host: Host, pieces: Pieces) -> tuple[Sample, ModelOptions]:
    """Has every host read its part of the train channel once, and keeps a uniform sample of all rows, projected."""
    given = host.task.hyperparameters
    size = sum(piece.size for part in pieces.values() for piece in part)
    read = hosts.each(Host.sample, {name: (pieces[name], size) for name in hosts.names})
    widths = {name: width for name, (_, width) in read.items() if width is not None}
    if not widths:
        raise UserError("SIGTERM came before the first row was read." if _stopped(hosts) else _no_rows(pieces, "train"))
    if len(set(widths.values())) > 1:
        came = ", ".join(f"{width} on {name}" for name, width in widths.items())
        raise UserError(f"Channel 'train': expected rows of one width on all hosts, features that came: {came}.")
    width = next(iter(widths.values()))
    summaries = {name: summary for name, (summary, _) in read.items()}
    if len(hosts.names) == 1:
        sample = host.hand_over()
    else:
        kept = min(given.sample_size, sum(summary.rows for summary in summaries.values()))
        host.capacity(max(summary.width for summary in summaries.values())).check(kept)
        sample = collect(hosts, summaries, given.sample_size)
    if len(sample) < given.k:
        raise UserError(
            f"k is {given.k} and the sample has {len(sample)} rows (sample_size {given.sample_size}, "
            f"{sample.rows_read} rows read). Lower k or give more rows."
        )
    log.info("Sampled %d of %d rows with %d features.", len(sample), sample.rows_read, width)
    return sample, given.options(width)


def _stopped(hosts: Hosts) -> bool:
    """Whether SIGTERM has come to any host: the platform's reach them at different times."""
    return any(hosts.each(Host.stopped, dict.fromkeys(hosts.names, ())).values())


def _divide(hosts: Hosts, channel: Channel) -> Pieces:
    """Says what each host is to read."""
    marked = len(hosts.names) > 1 and channel.distribution is None
    return divide(channel, hosts.each(Host.list_files, dict.fromkeys(hosts.names, (channel.name, marked))))


def _score(hosts: Hosts, host: Host, model: Model, folders: Folders, *, pieces: Pieces, index_type: str) -> None:
    """Has the hosts predict their parts of the test channel, writes how well, and leaves a report."""
    scoring = [name for name in hosts.names if pieces[name]]
    _send(hosts, [name for name in scoring if name != host.name], folders.model)
    scored = hosts.each(Host.score, {name: (pieces[name], seed) for seed, name in enumerate(scoring)})
    if _stopped(hosts):
        return
    evaluation, seconds = Evaluation(model.options.predictor_type), 0.0
    for part, took, _ in scored.values():
        evaluation.merge(part)
        seconds = max(seconds, took)
    if not evaluation.score.rows:
        raise UserError(_no_rows(pieces, "test"))
    host.telemetry.scores(evaluation.score.result())
    k, score = evaluation.best()
    log.info("Best k of 1..%d: %d, %s %.4g", model.options.k, k, evaluation.score.name, score)
    timings = next(iter(scored.values()))[2]
    report.write(folders.report, evaluation, model.options, index_type, seconds, timings=timings)


def _send(hosts: Hosts, names: list[str], model: Path) -> None:
    """Sends the model to other hosts."""
    for name in (artifact.MANIFEST, *artifact.FILES) if names else ():
        with (model / name).open("rb") as file:
            while block := file.read(_BLOCK):
                hosts.broadcast(Host.receive, names, name, block)


def _no_rows(pieces: Pieces, channel: str) -> str:
    paths = [piece.path for part in pieces.values() for piece in part]
    return f"The channel {channel!r} has {len(paths)} files and not one row: {', '.join(paths[:5])}."
