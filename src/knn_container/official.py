"""Models of SageMaker's built-in k-NN, as far as its documentation describes them.

SageMaker's developer guide ("How the k-NN Algorithm Works", "Serialize the Model") names three files:
`model_algo-1`, a serialised index; `model_algo-1.labels`, float32 labels; `model_algo-1.json`, which its example
writes with Python's booleans.
"""

import ast
import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from knn_container.errors import ArtifactError
from knn_container.metric import Metric
from knn_container.model import LARGEST_K, Model, ModelOptions
from knn_container.voting import Aggregation, Weights

INDEX = "model_algo-1"
_NPROBE = 5  # the built-in's own, in the configuration that its logs print


def is_official(folder: Path) -> bool:
    """Whether a folder holds a model of the built-in algorithm."""
    return (folder / INDEX).is_file()


def load(folder: Path) -> Model:
    """Reads a model of the built-in algorithm.

    Raises:
        ArtifactError: says which part cannot be used, and why.
    """
    metadata = _read_metadata(folder / f"{INDEX}.json")
    reduction = metadata.get("dimension_reduction") or {}
    kind = reduction.get("type") if isinstance(reduction, dict) else reduction
    if kind not in (None, "", "none"):
        raise ArtifactError(
            f"the model was reduced in dimension by {kind!r}: the built-in algorithm stores only the "
            "seed of its projection, and how it draws from that is not public. Train the model again here."
        )
    try:
        index = faiss.read_index(str(folder / INDEX))
    except RuntimeError as error:
        raise ArtifactError(
            f"FAISS {faiss.__version__} cannot read {INDEX} as an index: {str(error).splitlines()[0]}. "
            "Train the model again here."
        ) from error
    labels = _read_labels(folder / f"{INDEX}.labels", index.ntotal)
    k, predictor_type = metadata.get("k"), metadata.get("predictor_type")
    if type(k) is not int or not 0 < k <= LARGEST_K or predictor_type not in ("classifier", "regressor"):
        raise ArtifactError(
            f"{INDEX}.json: expected k from 1 to {LARGEST_K} and the predictor_type classifier or regressor, "
            f"{k!r} and {predictor_type!r} came."
        )
    # Rows of an index with product quantisation are padded with zeros.
    width = reduction.get("input_dim") if isinstance(reduction, dict) else None
    options = ModelOptions(
        dimension=width if type(width) is int and 0 < width <= index.d else index.d,
        k=k,
        predictor_type=predictor_type,
        metric=_metric(index, bool(metadata.get("normalize"))),
        nprobe=_NPROBE,
        weights=Weights.UNIFORM,
        aggregation=Aggregation.MEAN,
        reduction=None,
    )
    return Model(index, labels, np.arange(index.ntotal), options)


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        try:
            metadata = json.loads(text)
        except ValueError:
            metadata = ast.literal_eval(text.strip())  # reads literals alone, runs nothing
    except (OSError, ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ArtifactError(f"{path.name} cannot be read: {error}.") from error
    if not isinstance(metadata, dict):
        raise ArtifactError(f"{path.name}: expected an object, {type(metadata).__name__} came.")
    return metadata


def _read_labels(path: Path, rows: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    try:
        labels = np.fromfile(path, "<f4")
    except OSError as error:
        raise ArtifactError(f"{path.name} cannot be read: {error}.") from error
    if len(labels) != rows:
        raise ArtifactError(f"{path.name} has {len(labels)} float32 labels, the index {rows} rows.")
    return labels


def _metric(index: faiss.Index, normalised: bool) -> Metric:
    if index.metric_type == faiss.METRIC_L2:
        if normalised:
            raise ArtifactError(
                f"{INDEX}.json says that rows were normalised, and the index compares them by L2: how queries are to "
                "be treated is not public. Train the model again here."
            )
        return Metric.L2
    return Metric.COSINE if normalised else Metric.INNER_PRODUCT
