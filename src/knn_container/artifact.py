"""The model on disk: a folder of four files, described in the README's section "The model".

`manifest.json` is written last: without it there is no model. Nothing in the folder depends on time or place, and
nothing is executed on reading it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from knn_container import checksums
from knn_container.batch import IdArray, LabelArray
from knn_container.checksums import TRAIN_AGAIN as _TRAIN_AGAIN
from knn_container.errors import ArtifactError
from knn_container.index import padded
from knn_container.metric import Metric
from knn_container.model import LARGEST_K, Model, ModelOptions
from knn_container.recall import Recall
from knn_container.reduction import Reduction
from knn_container.search import AUTO, ENGINES
from knn_container.search.engines import KD_TREE
from knn_container.search.kd_tree import KDTree
from knn_container.voting import Aggregation, Weights

FORMAT = "knn-container"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
INDEX = "index.faiss"
LABELS = "labels.npy"
IDS = "ids.npy"
FILES = (INDEX, LABELS, IDS)
Check = Callable[[Path, Mapping[str, Mapping[str, Any]]], None]


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says beside the format and the files' checksums.

    Attributes:
        options: how the model predicts; `k`, `predictor_type`, `nprobe`, `weights`, `aggregation` and
            `search_engine` may be edited after training.
        index_type: the FAISS index.
        rows: rows in the index.
        zero_rows: under COSINE, the numbers of those without a direction, where the index cannot tell them.
        rows_read: rows that they were sampled from.
        stopped_early: whether SIGTERM ended the reading before the channel's end.
        label_type: numpy's name of the labels' type.
        hyperparameters: as they were given.
        recall: of an approximate index, as measured after training; None of an exact one, and in older models.
    """

    options: ModelOptions
    index_type: str
    rows: int
    zero_rows: list[int]
    rows_read: int
    stopped_early: bool
    label_type: str
    hyperparameters: dict[str, str]
    recall: Recall | None = None

    def document(self) -> dict[str, Any]:
        """The manifest as JSON holds it, the options beside the other fields."""
        document = asdict(self)
        options: dict[str, Any] = document.pop("options")
        return options | document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Manifest":
        """Reads what `document` gave.

        Raises:
            KeyError: a field is missing.
            ValueError: a field has a value that it cannot have.
        """
        for name in ("dimension", "k", "nprobe", "rows"):
            if type(document[name]) is not int or document[name] < 1:
                raise ValueError(f"{name} is {document[name]!r}, expected a whole number from 1")
        if document["predictor_type"] not in ("classifier", "regressor"):
            raise ValueError(f"predictor_type is {document['predictor_type']!r}, expected classifier or regressor")
        if document["weights"] == Weights.DISTANCE and document["metric"] == Metric.INNER_PRODUCT:
            raise ValueError("weights is 'distance', and INNER_PRODUCT is no distance")
        if document.get("search_engine", AUTO) not in (AUTO, *ENGINES):
            raise ValueError(f"search_engine is {document['search_engine']!r}, expected {AUTO}, {', '.join(ENGINES)}")
        if document["k"] > LARGEST_K:
            raise ValueError(f"k is {document['k']}, expected at most {LARGEST_K}")
        reduction = Reduction(**document["reduction"]) if document["reduction"] else None
        if reduction:
            reduction.check(document["dimension"])
        options = ModelOptions(
            dimension=document["dimension"],
            k=document["k"],
            predictor_type=document["predictor_type"],
            metric=Metric(document["metric"]),
            nprobe=document["nprobe"],
            weights=Weights(document["weights"]),
            aggregation=Aggregation(document["aggregation"]),
            reduction=reduction,
            search_engine=document.get("search_engine", AUTO),
        )
        recall = Recall(**document["recall"]) if document.get("recall") else None
        if recall:
            recall.check()
        others = {name: document[name] for name in cls.__dataclass_fields__ if name not in ("options", "recall")}
        return cls(options, **others, recall=recall)


def save(folder: Path, manifest: Manifest, index: faiss.Index, labels: LabelArray, ids: IdArray) -> None:
    """Writes a model.

    Raises:
        OSError: the folder cannot be written, or the disk is full; no manifest is left then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove(folder)
    try:
        _write_index(index, folder / INDEX)
        _write_array(labels, folder / LABELS)
        _write_array(ids, folder / IDS)
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "faiss_version": faiss.__version__,
            **manifest.document(),
            "files": {name: checksums.describe(folder / name) for name in FILES},
        }
        part = folder / f"{MANIFEST}.part"
        part.write_text(json.dumps(document, indent=2) + "\n")
        part.replace(folder / MANIFEST)
    except BaseException:
        remove(folder)
        raise


def remove(folder: Path) -> None:
    """Removes a model's files, the manifest first."""
    for name in (MANIFEST, f"{MANIFEST}.part", *FILES):
        (folder / name).unlink(missing_ok=True)


def _write_index(index: faiss.Index, path: Path) -> None:
    # FAISS reports a full disk as an error of its own; writing through Python's file raises OSError.
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


def _write_array(array: LabelArray | IdArray, path: Path) -> None:
    # numpy's own writing to a file does not say why it failed.
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    with path.open("wb") as file:
        file.write(header.getbuffer())
        file.write(np.ascontiguousarray(array).data)


def load(folder: Path, check: Check = checksums.check) -> tuple[Model, Manifest]:
    """Reads a model.

    Args:
        folder: where it is.
        check: compares its files with what the manifest promises, as `checksums.check` does.

    Raises:
        ArtifactError: there is none, it is not whole, or it was made by a newer version.
    """
    manifest = read_manifest(folder, check)
    index = _read_index(folder / INDEX)
    labels: LabelArray = _read_array(folder / LABELS)
    ids: IdArray = _read_array(folder / IDS)
    options = manifest.options
    pq_m = index.pq.M if isinstance(index, faiss.IndexIVFPQ) else None
    columns = options.reduction.target if options.reduction else padded(options.dimension, pq_m)
    for what, came, expected in (
        ("index has {} columns", index.d, columns),
        ("index has {} rows", index.ntotal, manifest.rows),
        ("model has {} labels", len(labels), manifest.rows),
        ("model has {} row ids", len(ids), manifest.rows),
    ):
        if came != expected:
            raise ArtifactError(f"the {what.format(came)}, {MANIFEST} promises {expected}. {_TRAIN_AGAIN}")
    if (index.metric_type == faiss.METRIC_L2) != (options.metric is Metric.L2):
        raise ArtifactError(f"the index was not built for {options.metric}, which {MANIFEST} promises. {_TRAIN_AGAIN}")
    return Model(index, labels, ids, options, manifest.zero_rows), manifest


def tree_bytes(folder: Path) -> int:
    """What the k-d tree takes that a model was told to be searched by; 0 if it was not.

    Raises:
        ArtifactError: there is no manifest, or it is not one.
    """
    manifest = read_manifest(folder, lambda _folder, _files: None)
    if manifest.options.search_engine != KD_TREE:
        return 0
    reduction = manifest.options.reduction
    return KDTree.bytes_needed(manifest.rows, reduction.target if reduction else manifest.options.dimension)


def read_manifest(folder: Path, check: Check = checksums.check) -> Manifest:
    """Reads the manifest and checks the files against it.

    Args:
        folder: where it is.
        check: as for `load`.

    Raises:
        ArtifactError: as `load`.
    """
    document = _read_document(folder)
    path = folder / MANIFEST
    try:
        manifest = Manifest.from_document(document)
        check(folder, {name: document["files"][name] for name in FILES})
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path} is damaged: {error!r}. {_TRAIN_AGAIN}") from error
    return manifest


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"no model: {path} does not exist. Train one, or put a model.tar.gz there.")
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']!r}, expected {FORMAT!r}")
        version = int(document["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is not a model's manifest: {error}. {_TRAIN_AGAIN}") from error
    if version > FORMAT_VERSION:
        raise ArtifactError(
            f"the model has format version {version}, written by a newer release; this one reads up to "
            f"{FORMAT_VERSION}. Serve it with the image that trained it or a newer one."
        )
    return document


def _read_array(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path.name} cannot be read as numbers or text: {error}. {_TRAIN_AGAIN}") from error


def _read_index(path: Path) -> faiss.Index:
    try:
        # Maps what it can into memory, such as the vectors of a flat index, which processes then share.
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise ArtifactError(
            f"FAISS {faiss.__version__} cannot read {path.name}: {str(error).splitlines()[0]}. If a newer FAISS wrote "
            "it (faiss_version in the manifest), serve it with that image."
        ) from error
