"""The hyperparameters: one table by which they are validated, documented and described to SageMaker."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from knn_container.index import FLAT, INDEX_TYPES
from knn_container.metric import Metric
from knn_container.model import LARGEST_K
from knn_container.reduction import FJLT, SIGN
from knn_container.search import ENGINES
from knn_container.voting import Aggregation, Weights

AUTO = "auto"
PQ_M = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
_WHOLE_NUMBER = re.compile(r"[+-]?\d+")
_DECIMAL_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Hyperparameter:
    """One row of the table.

    Attributes:
        name: as in `hyperparameters.json`.
        allowed: the range or the choices, as errors and the README print them.
        parse: turns the text into a value; raises ValueError where it is not of the right type.
        accepts: whether a value is in the range.
        default: None where the hyperparameter is required or has no default.
        required: whether it must be given.
        help: one sentence.
    """

    name: str
    allowed: str
    parse: Callable[[str], Any]
    accepts: Callable[[Any], bool]
    help: str
    default: Any = None
    required: bool = False


def _whole(text: str) -> int:
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _decimal(text: str) -> float:
    if not _DECIMAL_NUMBER.fullmatch(text):
        raise ValueError(text)
    return float(text)


def _whole_or_auto(text: str) -> int | str:
    return AUTO if text == AUTO else _whole(text)


def _number(name: str, help_: str, *, low: int = 1, high: int | None = None, **options: Any) -> Hyperparameter:
    allowed = f"[{low}, {high}]" if high is not None else f"[{low}, +inf)"
    return Hyperparameter(name, allowed, _whole, lambda v: low <= v and (high is None or v <= high), help_, **options)


def _number_or_auto(name: str, help_: str) -> Hyperparameter:
    return Hyperparameter(name, "auto or [1, +inf)", _whole_or_auto, lambda v: v == AUTO or v >= 1, help_, default=AUTO)


def _choice(name: str, choices: tuple[Any, ...], help_: str, **options: Any) -> Hyperparameter:
    allowed = f"[{', '.join(map(str, choices))}]"
    parse = _whole if isinstance(choices[0], int) else str
    return Hyperparameter(name, allowed, parse, lambda v: v in choices, help_, **options)


TABLE: tuple[Hyperparameter, ...] = (
    _number_or_auto("feature_dim", "The number of features; `auto` takes it from the data."),
    _number("k", "The number of neighbours.", high=LARGEST_K, required=True),
    _choice(
        "predictor_type",
        ("classifier", "regressor"),
        "`classifier` predicts the label with the most votes, `regressor` the `aggregation` of the labels.",
        required=True,
    ),
    _number("sample_size", "How many rows of the training data to keep.", required=True),
    _choice(
        "dimension_reduction_type",
        ("none", SIGN, FJLT),
        "Projects the rows: `sign` by a random matrix of signs, `fjlt` by a fast Johnson-Lindenstrauss transform.",
        default="none",
    ),
    _number("dimension_reduction_target", "Columns after the reduction; required with `dimension_reduction_type`."),
    _choice(
        "index_type",
        (*INDEX_TYPES, AUTO),
        "The FAISS index; `auto` measures them and takes the fastest that reaches `target_recall`.",
        default=FLAT,
    ),
    Hyperparameter(
        "target_recall",
        "(0, 1]",
        _decimal,
        lambda v: 0 < v <= 1,
        "The least share of the true neighbours that an index found by `auto` finds; 1 is exact search.",
        default=0.99,
    ),
    _choice(
        "index_metric",
        tuple(metric.value for metric in Metric),
        "What makes rows near; `faiss.IVFPQ` takes `L2` alone.",
        default=Metric.L2.value,
    ),
    _number_or_auto(
        "faiss_index_ivf_nlists", "Inverted lists of the `IVF` indexes; `auto` is the square root of the rows held."
    ),
    _choice(
        "faiss_index_pq_m",
        PQ_M,
        "Bytes of a row's code in `faiss.IVFPQ`, which requires it. Rows whose columns it does not divide are "
        "padded with zeros; a `dimension_reduction_target` is raised to its next multiple.",
    ),
    _number("nprobe", "Inverted lists that a query looks into.", default=5),
    _number("_faiss_index_nprobe", "The built-in algorithm's name for `nprobe`; used where that is not given."),
    _choice(
        "weights",
        tuple(weights.value for weights in Weights),
        "`uniform` counts all neighbours alike, `distance` by the inverse of their distance, as scikit-learn does; "
        "not for `INNER_PRODUCT`.",
        default=Weights.UNIFORM.value,
    ),
    _choice(
        "aggregation",
        tuple(aggregation.value for aggregation in Aggregation),
        "What a `regressor` makes of its neighbours' labels; `geometric_mean` takes positive labels.",
        default=Aggregation.MEAN.value,
    ),
    _choice(
        "search_engine",
        (AUTO, *ENGINES),
        "How `faiss.Flat` searches: row by row, by matrix products, by projections (`L2` alone), by a k-d tree (not "
        "for `INNER_PRODUCT`), or `auto`, by what is fastest; the answers are the same.",
        default=AUTO,
    ),
    _number("mini_batch_size", "Rows that are read at a time; no model depends on it.", high=10**7, default=5000),
    _number("seed", "Seed of the sample, the projection and k-means.", low=0, high=2**31 - 1, default=0),
)
