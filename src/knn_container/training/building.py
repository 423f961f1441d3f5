"""Makes the index of a sample: the one that is asked for, or the one that measurements speak for."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import faiss

from knn_container import gpu, index, memory, recall
from knn_container.batch import Float32Array
from knn_container.hyperparameters import Hyperparameters
from knn_container.index import IndexSpec
from knn_container.model import ModelOptions
from knn_container.recall import Recall
from knn_container.sampling import Sample
from knn_container.training.choosing import Chooser
from knn_container.training.telemetry import Every
from knn_container.training.trials import Trial

_BLOCK_ROWS = 1 << 14  # rows that are looked at together

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    """An index, and what is known of it.

    Attributes:
        index: of all rows of the sample.
        spec: what it was built from.
        options: how the model predicts, the index's own `nprobe` and `reduction` among them.
        zero_rows: under COSINE, the numbers of the rows without a direction that the index cannot tell.
        recall: as measured; None of an exact index, and of a single row.
        trials: what the index was chosen from; empty where it was not.
    """

    index: faiss.Index
    spec: IndexSpec
    options: ModelOptions
    zero_rows: list[int]
    recall: Recall | None
    trials: tuple[Trial, ...] = ()


def build(given: Hyperparameters, sample: Sample, options: ModelOptions, stopped: Callable[[], bool]) -> Built:
    """Builds an index.

    Args:
        given: say which, or that it is to be chosen.
        sample: its rows.
        options: how the model would predict with exact search.
        stopped: whether the job is to end, so that there is no time for a choice.

    Raises:
        UserError: the rows do not do for the index.
    """
    started = time.perf_counter()
    log.info("Training index...")
    built = _choose(given, sample, options, stopped) if given.chooses_index else _build(given, sample, options)
    log.info("...Finished training index in %.1f second(s)", time.perf_counter() - started)
    if found := built.recall:
        lists = f" with nprobe {found.nprobe}" if found.nprobe else ""
        log.info("%s: recall@%d %.4f%s, %d rows.", built.spec.index_type, found.k, found.value, lists, found.queries)
    return built


def _build(given: Hyperparameters, sample: Sample, options: ModelOptions) -> Built:
    spec, tick = given.index_spec, Every(5)

    def blocks(rows: int) -> Iterator[Float32Array]:
        for number, block in enumerate(sample.blocks(rows)):
            if tick.due():
                log.info("%d of %d rows are in the index's hands.", number * rows, len(sample))
            yield block

    built = index.build(spec, len(sample), sample.features.shape[1], blocks, gpu.find)
    measured = recall.measure(sample, spec, built, options.k, options.nprobe)
    return Built(built, spec, options, _zero_rows(spec, sample), measured)


def _choose(given: Hyperparameters, sample: Sample, options: ModelOptions, stopped: Callable[[], bool]) -> Built:
    choice = Chooser(
        sample,
        options.metric,
        options.k,
        given.target_recall,
        seed=given.seed,
        room=memory.room,
        stopped=stopped,
        reduced=options.reduction is not None,
    ).choose()
    chosen = replace(options, nprobe=choice.nprobe or options.nprobe, reduction=choice.reduction or options.reduction)
    zero_rows = _zero_rows(choice.spec, sample)
    return Built(choice.index, choice.spec, chosen, zero_rows, choice.recall, choice.trials)


def _zero_rows(spec: IndexSpec, sample: Sample) -> list[int]:
    return index.zero_rows(spec, sample.blocks(_BLOCK_ROWS))
