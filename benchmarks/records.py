"""Writes data as a training job and its readers take it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knn_container.formats.record_pb2 import Record

_MAGIC = bytes.fromhex("0a23d7ce")
_BLOCK = 100_000  # rows that are made at a time


class Frames:
    """RecordIO frames of labelled rows: one record many times over, each with its own numbers.

    Args:
        columns: features in a row.
        dtype: float32 or float64.
    """

    def __init__(self, columns: int, dtype: str = "<f4") -> None:
        self._dtype = np.dtype(dtype)
        values = np.arange(1, columns + 1, dtype=self._dtype)
        label = np.array([0.123], self._dtype)
        record = Record()
        for place, numbers in ((record.features["values"], values), (record.label["values"], label)):
            tensor = place.float32_tensor if self._dtype.itemsize == 4 else place.float64_tensor
            tensor.values.extend(numbers.tolist())
        payload = record.SerializeToString(deterministic=True)
        self._frame = _MAGIC + len(payload).to_bytes(4, "little") + payload + bytes(-len(payload) % 4)
        self._features_at = self._frame.index(values.tobytes())
        self._label_at = self._frame.index(label.tobytes())

    def encode(self, features: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.uint8]:
        """Encodes (n, d) features and (n,) labels, each row as one of bytes."""
        table = np.tile(np.frombuffer(self._frame, np.uint8), (len(features), 1))
        for at, numbers in ((self._features_at, features), (self._label_at, labels[:, np.newaxis])):
            packed = np.ascontiguousarray(numbers, self._dtype).view(np.uint8)
            table[:, at : at + packed.shape[1]] = packed
        return table

    def write(self, path: Path, features: NDArray[Any], labels: NDArray[Any]) -> None:
        """Writes a file of them."""
        with path.open("wb") as file:
            for start in range(0, len(features), _BLOCK):
                part = slice(start, start + _BLOCK)
                file.write(self.encode(features[part], labels[part]).data)


def write_mixed(path: Path, features: NDArray[Any], labels: NDArray[Any]) -> None:
    """Writes an even number of labelled rows, which are float32 and float64 by turns, and so of different lengths."""
    single, double = Frames(features.shape[1]), Frames(features.shape[1], "<f8")
    with path.open("wb") as file:
        for start in range(0, len(features), _BLOCK):
            even, odd = slice(start, start + _BLOCK, 2), slice(start + 1, start + _BLOCK, 2)
            pairs = [single.encode(features[even], labels[even]), double.encode(features[odd], labels[odd])]
            file.write(np.concatenate(pairs, axis=1).data)


def csv_lines(features: NDArray[Any], labels: NDArray[Any] | None = None) -> list[str]:
    """Writes each row as a line, the label first; whole numbers without a point."""
    columns = features if labels is None else np.column_stack([labels, features])
    return [",".join(map(_text, row)) for row in columns.tolist()]


def _text(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.7g}"


def write_csv(path: Path, features: NDArray[Any], labels: NDArray[Any]) -> None:
    """Writes a file of labelled rows."""
    with path.open("w") as file:
        for start in range(0, len(features), _BLOCK):
            part = slice(start, start + _BLOCK)
            file.writelines(f"{line}\n" for line in csv_lines(features[part], labels[part]))
