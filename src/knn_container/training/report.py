"""The report on the test channel: `evaluation.json` and its picture, `evaluation.png`.

The JSON document has these fields, in this order; a number that is not finite is null:

- `rows`: test rows.
- `predictor_type`, `k`, `metric`, `weights`, `index_type`: the model; for a regressor also `aggregation`.
- `seconds`: how long it took to predict the rows; `rows_per_second`: the same as a rate.
- `scores`: of a classifier `accuracy`, `macro_f1` and `classes`, their number; of a regressor `mse`, `rmse`, `mae`
  and `r2`, which is null where all labels are the same.
- `best_k`: the number of neighbours from 1 to `k` with the best score, the smallest among equals, and the score.
- `score_per_k`: the score (`accuracy` or `mse`) by number of neighbours; of medians beyond 64 not of every number.
- `classes`: of a classifier with at most 1,000 classes, the `label`, `precision`, `recall`, `f1` and `support` of
  each, ascending. What scikit-learn divides by zero is 0, as there.
- `confusion_matrix`: with at most 100 classes, how many rows of one class (the outer list, in the order of
  `classes`) were predicted to be of another (the inner list).
"""

import json
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from knn_container.model import ModelOptions
from knn_container.training import picture
from knn_container.training.evaluation import Evaluation, RegressorScore

log = logging.getLogger(__name__)

JSON, PICTURE = "evaluation.json", "evaluation.png"


def document(evaluation: Evaluation, options: ModelOptions, index_type: str, seconds: float) -> dict[str, Any]:
    """Makes the JSON document.

    Args:
        evaluation: of one row at least.
        options: the model's.
        index_type: the model's.
        seconds: how long it took to predict the rows.
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
        "scores": _finite(details.pop("scores")),
        "best_k": _finite({"k": best_k, score.name: best}),
        "score_per_k": [_finite({"k": k, score.name: value}) for k, value in evaluation.per_k().items()],
        **details,
    }


def _finite(scores: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity, which squares of large labels reach."""
    return {name: value if value is None or math.isfinite(value) else None for name, value in scores.items()}


def write(folder: Path, evaluation: Evaluation, options: ModelOptions, index_type: str, seconds: float) -> None:
    """Writes the report below `folder`; what cannot be drawn or written costs a line in the log and no more.

    Args:
        folder: made if need be.
        evaluation: as `document` takes it, like what follows.
        options: the model's.
        index_type: the model's.
        seconds: how long it took to predict the rows.
    """
    score = evaluation.score
    try:
        folder.mkdir(parents=True, exist_ok=True)
        facts = document(evaluation, options, index_type, seconds)
        _leave(folder / JSON, _text(facts).encode())
        with _matplotlib_folder(folder):
            drawn = picture.draw(facts, score.sample() if isinstance(score, RegressorScore) else None)
        _leave(folder / PICTURE, drawn)
    except Exception as error:  # the model is complete: a report is no reason to fail
        log.warning("The report on the test rows is not complete: %s: %s", type(error).__name__, error)


def remove(folder: Path) -> None:
    """Removes an earlier job's report, as far as that can be done."""
    for name in (JSON, PICTURE):
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
def _matplotlib_folder(parent: Path) -> Iterator[None]:
    """Gives matplotlib a folder for its list of fonts, unless it has one.

    Below `parent` there can be one even where nothing else of the file system can be written; and no settings in
    somebody's home change the picture.
    """
    if "MPLCONFIGDIR" in os.environ:
        yield
        return
    with TemporaryDirectory(prefix=".matplotlib-", dir=parent) as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]
