"""The report: on the test channel `evaluation.json` and its picture, `evaluation.png`; on the index `index.json`.

`evaluation.json` has these fields, in this order; a number that is not finite is null:

- `rows`: test rows.
- `predictor_type`, `k`, `metric`, `weights`, `index_type`: the model; for a regressor also `aggregation`.
- `seconds`: how long it took to predict the rows; `rows_per_second`: the same as a rate.
- `engines`: what was measured of the engines of the exact search: with an `engine` and a number of `queries` the
  `milliseconds` that they took together, and whether it was `chosen` for as many. Where one was not to be chosen, the
  field is not there. With several hosts, it is the leading one's.
- `scores`: of a classifier `accuracy`, `macro_f1` and `classes`, their number; of a regressor `mse`, `rmse`, `mae`
  and `r2`, which is null where all labels are the same.
- `best_k`: the number of neighbours from 1 to `k` with the best score, the smallest among equals, and the score.
- `score_per_k`: the score (`accuracy` or `mse`) by number of neighbours; of medians beyond 64 not of every number.
- `classes`: of a classifier with at most 1,000 classes, the `label`, `precision`, `recall`, `f1` and `support` of
  each, ascending. What scikit-learn divides by zero is 0, as there.
- `confusion_matrix`: with at most 100 classes, how many rows of one class (the outer list, in the order of
  `classes`) were predicted to be of another (the inner list).

`index.json` is there where the index is approximate or was chosen:

- `index_type`, `metric`, `rows`, `nprobe`: the model; of an index without inverted lists `nprobe` means nothing.
- `recall`: as in the manifest: the share of the true neighbours that the index finds (`value`), of how many a query
  (`k`), for how many rows (`queries`), in how many lists (`nprobe`); null of exact search.
- `target_recall`: what was asked for, where the index was chosen.
- `trials`: what it was chosen from, with the fields of `trials.Trial`, of which one is `chosen`.
"""

import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from knn_container.hyperparameters import Hyperparameters
from knn_container.index import FLAT
from knn_container.model import ModelOptions
from knn_container.search import Timing
from knn_container.training import picture
from knn_container.training.building import Built
from knn_container.training.evaluation import Evaluation, RegressorScore

log = logging.getLogger(__name__)

JSON, PICTURE, INDEX = "evaluation.json", "evaluation.png", "index.json"


def document(
    evaluation: Evaluation, options: ModelOptions, index_type: str, seconds: float, timings: Sequence[Timing] = ()
) -> dict[str, Any]:
    """Makes the JSON document.

    Args:
        evaluation: of one row at least.
        options: the model's.
        index_type: the model's.
        seconds: how long it took to predict the rows.
        timings: of the search's engines.
    """
    score, (best_k, best) = evaluation.score, evaluation.best()
    details = score.details()
    return {
        "rows": score.rows,
        "predictor_type": options.predictor_type,
        "k": options.k,
        "metric": options.metric.value,
        "weights": options.weights.value,
        **({"aggregation": options.aggregation.value} if isinstance(score, RegressorScore) else {}),
        "index_type": index_type,
        "seconds": round(seconds, 6),
        "rows_per_second": round(score.rows / max(seconds, 1e-6), 1),
        **({"engines": [_engine(timing) for timing in timings]} if timings else {}),
        "scores": _finite(details.pop("scores")),
        "best_k": _finite({"k": best_k, score.name: best}),
        "score_per_k": [_finite({"k": k, score.name: value}) for k, value in evaluation.per_k().items()],
        **details,
    }


def _engine(timing: Timing) -> dict[str, Any]:
    return {
        "engine": timing.engine,
        "queries": timing.queries,
        "milliseconds": round(1000 * timing.seconds, 6),
        "chosen": timing.chosen,
    }


def _finite(scores: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity, which squares of large labels reach."""
    return {name: value if value is None or math.isfinite(value) else None for name, value in scores.items()}


def write(
    folder: Path,
    evaluation: Evaluation,
    options: ModelOptions,
    index_type: str,
    seconds: float,
    *,
    timings: Sequence[Timing] = (),
) -> None:
    """Writes the report on test rows below `folder`; what cannot be drawn or written costs a line in the log.

    Args:
        folder: made if need be.
        evaluation: as `document` takes it, like what follows.
        options: the model's.
        index_type: the model's.
        seconds: how long it took to predict the rows.
        timings: of the search's engines.
    """
    score = evaluation.score
    try:
        folder.mkdir(parents=True, exist_ok=True)
        facts = document(evaluation, options, index_type, seconds, timings)
        _leave(folder / JSON, _text(facts).encode())
        with _matplotlib_folder(folder):
            drawn = picture.draw(facts, score.sample() if isinstance(score, RegressorScore) else None)
        _leave(folder / PICTURE, drawn)
    except Exception as error:  # the model is complete: a report is no reason to fail
        log.warning("The report on the test rows is not complete: %s: %s", type(error).__name__, error)


def write_index(folder: Path, built: Built, rows: int, given: Hyperparameters) -> None:
    """Writes the report on an index that is approximate or was chosen; what cannot be written costs a line in the log.

    Args:
        folder: made if need be.
        built: the index.
        rows: in the index.
        given: say what was asked for.
    """
    if built.spec.index_type == FLAT and not given.chooses_index:
        return
    facts: dict[str, Any] = {
        "index_type": built.spec.index_type,
        "metric": built.spec.metric.value,
        "rows": rows,
        "nprobe": built.options.nprobe,
        "recall": asdict(built.recall) if built.recall else None,
    }
    if given.chooses_index:
        facts |= {"target_recall": given.target_recall, "trials": [asdict(trial) for trial in built.trials]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _leave(folder / INDEX, _text(facts).encode())
    except Exception as error:
        log.warning("The report on the index is not complete: %s: %s", type(error).__name__, error)


def is_there(folder: Path) -> bool:
    """Whether something of a report is below `folder`."""
    return any((folder / name).is_file() for name in (JSON, PICTURE, INDEX))


def prepare() -> None:
    """Loads what draws, for which there is time while something is built in the background."""
    with suppress(Exception), _matplotlib_folder(None):  # what cannot be loaded now is loaded when it is needed
        picture.load()


def remove(folder: Path) -> None:
    """Removes an earlier job's report, as far as that can be done."""
    for name in (JSON, PICTURE, INDEX):
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            log.warning("An earlier job's report stays: %s", error)


def _leave(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _text(facts: dict[str, Any]) -> str:
    """Pretty JSON with a line for each item of a list."""
    fields = []
    for name, value in facts.items():
        if isinstance(value, list) and value:
            items = ",\n".join(f"    {json.dumps(item, allow_nan=False)}" for item in value)
            fields.append(f'  "{name}": [\n{items}\n  ]')
        else:
            fields.append(f'  "{name}": {json.dumps(value, allow_nan=False)}')
    return "{\n" + ",\n".join(fields) + "\n}\n"


@contextmanager
def _matplotlib_folder(parent: Path | None) -> Iterator[None]:
    """Gives matplotlib a folder for its list of fonts, unless it has one.

    Below `parent` there can be one even where nothing else of the file system can be written; and no settings in
    somebody's home change the picture. None stands for the usual place of temporary files.
    """
    if "MPLCONFIGDIR" in os.environ:
        yield
        return
    with TemporaryDirectory(prefix=".matplotlib-", dir=parent) as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            os.environ.pop("MPLCONFIGDIR", None)
