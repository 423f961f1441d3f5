"""The hyperparameters of a job, read by the table and checked against each other."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from knn_container.errors import UserError
from knn_container.hyperparameter_table import AUTO, TABLE
from knn_container.index import FLAT, IVF_PQ, IVF_RABITQ, IndexSpec, padded
from knn_container.metric import Metric
from knn_container.model import ModelOptions
from knn_container.reduction import ROTATION, Reduction
from knn_container.search.engines import KD_TREE, PROJECTIONS
from knn_container.voting import Aggregation, Weights

_TARGET_TOO_LARGE = "Hyperparameter 'dimension_reduction_target' should be less than 'feature_dim'."
# What the platform, its SDKs and the built-in's own defaults add; it has no meaning here.
_IGNORED = re.compile(r"_.*|sagemaker_.*|epochs")


@dataclass(frozen=True)
class Hyperparameters:
    """Values that have passed every check; the fields are those of the table."""

    k: int
    predictor_type: str
    sample_size: int
    feature_dim: int | None
    reduction_type: str | None
    reduction_target: int | None
    index_type: str
    target_recall: float
    index_metric: Metric
    nlist: int | None
    pq_m: int | None
    nprobe: int
    weights: Weights
    aggregation: Aggregation
    search_engine: str
    mini_batch_size: int
    seed: int

    @property
    def chooses_index(self) -> bool:
        """Whether the index is the one that measurements speak for."""
        return self.index_type == AUTO

    @property
    def index_spec(self) -> IndexSpec:
        """What the index is built from; while it is to be chosen, exact search, which is always one of the choices."""
        index_type = FLAT if self.chooses_index else self.index_type
        return IndexSpec(index_type, self.index_metric, self.nlist, self.pq_m, self.seed)

    def reduction(self, width: int) -> Reduction | None:
        """How rows of `width` columns are projected.

        Raises:
            UserError: the target is not below the width.
        """
        if self.reduction_type is None or self.reduction_target is None:
            return Reduction(ROTATION, width, self.seed) if self.index_type == IVF_RABITQ else None
        target = padded(self.reduction_target, self.pq_m)
        if self.reduction_target >= width:
            raise UserError(_TARGET_TOO_LARGE + f" The data have {width} features.")
        if target > width:
            raise UserError(
                f"dimension_reduction_target {self.reduction_target} is raised to {target}, the next multiple of "
                f"faiss_index_pq_m {self.pq_m}, which is more than the {width} features. Lower either."
            )
        return Reduction(self.reduction_type, target, self.seed)

    def options(self, width: int) -> ModelOptions:
        """How a model of rows of `width` columns predicts.

        Raises:
            UserError: as `reduction`.
        """
        return ModelOptions(
            dimension=width,
            k=self.k,
            predictor_type=self.predictor_type,
            metric=self.index_metric,
            nprobe=self.nprobe,
            weights=self.weights,
            aggregation=self.aggregation,
            reduction=self.reduction(width),
            search_engine=self.search_engine,
        )


def parse(given: Mapping[str, Any]) -> Hyperparameters:
    """Checks hyperparameters.

    Args:
        given: names and values as SageMaker delivers them, all text; one level of JSON quotes is taken off.

    Raises:
        UserError: names every mistake at once.
    """
    given = {name: value for name, value in given.items() if value is not None}
    values, mistakes = _read(given)
    mistakes += _contradictions(values, given)
    if mistakes:
        raise UserError(" ".join(mistakes))
    return Hyperparameters(
        k=values["k"],
        predictor_type=values["predictor_type"],
        sample_size=values["sample_size"],
        feature_dim=None if values["feature_dim"] == AUTO else values["feature_dim"],
        reduction_type=None if values["dimension_reduction_type"] == "none" else values["dimension_reduction_type"],
        reduction_target=values["dimension_reduction_target"],
        index_type=values["index_type"],
        target_recall=values["target_recall"],
        index_metric=Metric(values["index_metric"]),
        nlist=None if values["faiss_index_ivf_nlists"] == AUTO else values["faiss_index_ivf_nlists"],
        pq_m=values["faiss_index_pq_m"],
        nprobe=values["nprobe"] if "nprobe" in given else values["_faiss_index_nprobe"] or values["nprobe"],
        weights=Weights(values["weights"]),
        aggregation=Aggregation(values["aggregation"]),
        search_engine=values["search_engine"],
        mini_batch_size=values["mini_batch_size"],
        seed=values["seed"],
    )


def _read(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    known = {row.name for row in TABLE}
    mistakes = [
        f"Extraneous hyperparameter found: {name}."
        for name in given
        if name not in known and not _IGNORED.fullmatch(name)
    ]
    values: dict[str, Any] = {}
    for row in TABLE:
        values[row.name] = row.default
        text = _unquoted(given.get(row.name))
        if text is None:
            if row.required:
                mistakes.append(f"Missing required hyperparameter: {row.name}.")
            continue
        try:
            value = row.parse(text)
        except ValueError:
            mistakes.append(f"Hyperparameter {row.name}: could not parse value {text[:40]!r}, expected {row.allowed}.")
            continue
        if row.accepts(value):
            values[row.name] = value
        else:
            mistakes.append(f"Hyperparameter {row.name}: {text[:40]} is not in {row.allowed}.")
    return values, mistakes


def _unquoted(value: Any) -> str | None:
    """SDKs write a text as `classifier` or, JSON-quoted once more, as `"classifier"`."""
    if value is None:
        return None
    text = str(value).strip()
    if text.startswith('"'):
        with suppress(ValueError):
            return str(json.loads(text)).strip()
    return text


def _contradictions(values: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    mistakes = []
    is_pq = values["index_type"] == IVF_PQ
    if is_pq and values["index_metric"] != Metric.L2:
        mistakes.append(f"Hyperparameter index_metric: {IVF_PQ} takes L2 alone, {values['index_metric']} came.")
    if is_pq and "faiss_index_pq_m" not in given:
        mistakes.append(f"Missing required hyperparameter: faiss_index_pq_m, which {IVF_PQ} needs.")
    if "faiss_index_pq_m" in given and not is_pq:
        mistakes.append(f"Hyperparameter 'faiss_index_pq_m' should only be set when 'index_type' = '{IVF_PQ}'.")
    mistakes += _not_with_auto(values) if values["index_type"] == AUTO else _only_with_auto(values)
    reduces, target = values["dimension_reduction_type"] != "none", values["dimension_reduction_target"]
    if reduces and "dimension_reduction_target" not in given:
        mistakes.append(
            "Missing required hyperparameter: dimension_reduction_target, which dimension_reduction_type needs."
        )
    if "dimension_reduction_target" in given and not reduces:
        mistakes.append(
            "Hyperparameter 'dimension_reduction_target' should only be set when 'dimension_reduction_type' is set."
        )
    if reduces and target and isinstance(values["feature_dim"], int) and target >= values["feature_dim"]:
        mistakes.append(_TARGET_TOO_LARGE)
    if values["weights"] == Weights.DISTANCE and values["index_metric"] == Metric.INNER_PRODUCT:
        mistakes.append("Hyperparameter weights: distance cannot be used with INNER_PRODUCT, which is no distance.")
    if values["search_engine"] != AUTO and values["index_type"] != FLAT:
        mistakes.append(f"Hyperparameter 'search_engine' should only be set when 'index_type' = '{FLAT}'.")
    if values["search_engine"] == KD_TREE and values["index_metric"] == Metric.INNER_PRODUCT:
        mistakes.append("Hyperparameter search_engine: kd_tree cannot be used with INNER_PRODUCT.")
    if values["search_engine"] == PROJECTIONS and values["index_metric"] != Metric.L2:
        mistakes.append(f"Hyperparameter search_engine: projections takes L2 alone, {values['index_metric']} came.")
    return mistakes


# What SageMaker adds of an algorithm's defaults has been asked for by nobody, so a default is no contradiction. The
# built-in's `_faiss_index_nprobe` is not one either: its jobs have it without having been asked.
def _not_with_auto(values: Mapping[str, Any]) -> list[str]:
    return [
        f"Hyperparameter '{row.name}' should not be set when 'index_type' = '{AUTO}', which chooses it."
        for row in TABLE
        if row.name in ("faiss_index_ivf_nlists", "nprobe") and values[row.name] != row.default
    ]


def _only_with_auto(values: Mapping[str, Any]) -> list[str]:
    default = next(row.default for row in TABLE if row.name == "target_recall")
    if values["target_recall"] == default:
        return []
    return [f"Hyperparameter 'target_recall' should only be set when 'index_type' = '{AUTO}'."]
