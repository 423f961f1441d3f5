"""Dense records decoded many at a time, as tables of the records of one layout each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knn_container.batch import BoolArray, Float32Array, Int64Array, LabelArray
from knn_container.formats.layouts import Layout, locate
from knn_container.formats.records import Bytes, Records

LONGEST_UID = 256  # characters: every row of a model holds as many as its longest name
FEW = 8  # records of one layout at least are worth a table
_TRIES = 4  # layouts that are looked for among the records of one length


@dataclass(frozen=True)
class Part:
    """Some of the records, decoded.

    Attributes:
        rows: (n,) their numbers, ascending.
        features: (n, d), all finite.
        labels: (n,), all finite; empty where they were not asked for.
        uids: n names; empty where they were not asked for, or there are none.
    """

    rows: Int64Array
    features: Float32Array
    labels: LabelArray
    uids: list[str]


def decode(records: Records, *, labelled: bool) -> tuple[list[Part], Int64Array]:
    """Decodes records that are dense and like many others.

    Args:
        records: any.
        labelled: whether to read labels and names.

    Returns:
        What was decoded, and the rows that are left for another parser, ascending. Those of NaN, infinities and
        numbers outside float32 are among them.
    """
    parts: list[Part] = []
    left = [np.empty(0, np.int64)]
    for same_length in records.of_one_length():
        rows = same_length
        for _ in range(_TRIES):
            if len(rows) < FEW:
                break
            like_first, part = _decode_first(records, rows, labelled)
            if part:
                parts.append(part)
            else:
                left.append(rows[like_first])
            rows = rows[~like_first]
        left.append(rows)
    return parts, np.sort(np.concatenate(left))


def join(parts: Sequence[Part]) -> Part:
    """Puts parts that together have all rows from 0 on into one, whose labels have a type that holds all of them.

    Raises:
        ValueError: they differ in their number of features.
    """
    if len(parts) == 1:
        return parts[0]
    rows = sum(len(part.rows) for part in parts)
    (width,) = {part.features.shape[1] for part in parts}
    features = np.empty((rows, width), np.float32)
    labels = np.empty(sum(len(part.labels) for part in parts), np.result_type(*(part.labels for part in parts)))
    uids = [""] * rows if any(part.uids for part in parts) else []
    for part in parts:
        features[part.rows] = part.features
        if len(labels):
            labels[part.rows] = part.labels
        for row, uid in zip(part.rows.tolist() if part.uids else (), part.uids, strict=True):
            uids[row] = uid
    return Part(np.arange(rows), features, labels, uids)


def _decode_first(records: Records, rows: Int64Array, labelled: bool) -> tuple[BoolArray, Part | None]:
    """Decodes those records of one length that have the layout of the first: which they are, and what is in them."""
    layout = locate(records[rows[0]])
    if layout:
        table = records.table(rows)
        like_first = layout.fits(table)
        if like_first[0]:
            alike = table if like_first.all() else table[like_first]
            return like_first, _read(layout, alike, rows[like_first], labelled)
    return rows == rows[0], None


def _read(layout: Layout, table: Bytes, rows: Int64Array, labelled: bool) -> Part | None:
    """Reads (n, length) records of one layout; None where one of them is not as it should be."""
    try:
        with np.errstate(over="ignore"):
            features = layout.features.read(table).astype(np.float32, order="C")
        labels, uids = _read_labels(layout, table) if labelled else (np.empty(0, np.float32), [])
    except ValueError:
        return None
    return Part(rows, features, labels, uids) if np.isfinite(features).all() and np.isfinite(labels).all() else None


def _read_labels(layout: Layout, table: Bytes) -> tuple[LabelArray, list[str]]:
    """Reads a label and, where there is one, the name of each record.

    Raises:
        ValueError: not one label, or a name that is not UTF-8.
    """
    if layout.label is None or layout.label.size != 1:
        raise ValueError("not one label")
    labels = layout.label.read(table)[:, 0].copy()
    start, end = layout.uid
    if end - start > LONGEST_UID:
        raise ValueError("a long name")
    names = table[:, start:end].tobytes()
    return labels, [names[place : place + end - start].decode() for place in range(0, len(names), max(1, end - start))]
