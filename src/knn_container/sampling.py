"""A uniform random sample of a stream of rows, chosen by place: bottom-k sampling.

Each row gets a key, a hash of the seed, its file's path and its number in that file; the rows with the smallest
keys are the sample. The sample so depends neither on the order in which files are read nor on who reads them
(Cohen and Kaplan, "Summarizing Data using Bottom-k Sketches", PODC 2007).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import Features, Float32Array, IdArray, Int64Array, LabelArray, dense

UInt64Array = NDArray[np.uint64]


def row_keys(seed: int, path: str, start: int, count: int) -> UInt64Array:
    """Keys of `count` consecutive rows of one file, uniform over 64 bits.

    Args:
        seed: any integer.
        path: the file's, below its channel.
        start: the first row's number in the file, from 0.
        count: how many rows.

    Returns:
        (count,) uint64: SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014) applied twice to the row's
        number, each time under another half of BLAKE2b(seed, path).
    """
    digest = blake2b(f"{seed}\0{path}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
    first, second = np.frombuffer(digest, "<u8")
    numbers = np.arange(start, start + count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        return _mix(_mix(numbers * np.uint64(0x9E3779B97F4A7C15) + first) ^ second)


def _mix(bits: UInt64Array) -> UInt64Array:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@dataclass(frozen=True)
class Sample:
    """The rows that stay, in data order once `order` is applied.

    Attributes:
        features: (n, d) float32, in the order in which memory holds them.
        labels: (n,) in data order, in the narrowest type that held all labels read.
        ids: (n,) in data order: each row's running number over the whole data, from 0, as int64; its own name,
            where some row read has one, and the number as text where it has none.
        order: (n,) the places of `features` in data order.
        rows_read: how many rows there were to choose from.
    """

    features: Float32Array
    labels: LabelArray
    ids: IdArray
    order: Int64Array
    rows_read: int

    def __len__(self) -> int:
        return len(self.ids)

    def blocks(self, rows: int) -> Iterator[Float32Array]:
        """Gives the features in data order, `rows` at a time, so that they need not be copied whole."""
        for start in range(0, len(self), rows):
            yield self.features[self.order[start : start + rows]]


class BottomK:
    """Keeps the `size` rows with the smallest keys of all that are added.

    Memory is that of the rows kept and of one batch: arrays grow in place, by what a batch needs.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.rows_read = 0
        self._files: list[int] = []  # rows in each file, in the order of `start_file`
        self._path = ""
        self._held = 0
        self._limit = np.uint64(2**64 - 1)
        self._features: Float32Array = np.empty((0, 0), np.float32)
        self._labels = np.empty(0, np.float64)
        self._label_type: np.dtype[Any] = np.dtype(np.int32)
        self._keys = np.empty(0, np.uint64)
        self._file_of = np.empty(0, np.int32)
        self._number = np.empty(0, np.int64)
        self._uids = np.empty(0, object)
        self._named = False

    def start_file(self, path: str) -> None:
        """Begins the next file; files come in data order."""
        self._path = path
        self._files.append(0)

    def add(
        self,
        features: Features,
        labels: LabelArray,
        uids: Sequence[str] = (),
        project: Callable[[Features], Float32Array] = dense,
    ) -> None:
        """Offers the next rows of the file begun last.

        Args:
            features: (n, d) rows.
            labels: (n,) labels.
            uids: the rows' names, if they have any.
            project: turns the rows that are chosen into those that are kept.
        """
        start = self._files[-1]
        self._files[-1] += len(labels)
        self.rows_read += len(labels)
        self._label_type = np.result_type(self._label_type, labels) if start or self._held else labels.dtype
        keys = row_keys(self.seed, self._path, start, len(labels))
        chosen = np.flatnonzero(keys <= self._limit)
        held = self._held
        self._append(project(features[chosen]), labels[chosen], keys[chosen], start + chosen)
        if uids:
            self._named = True
            self._uids[held : self._held] = np.array(uids, object)[chosen]
        if self._held > self.size:
            self._drop(self._held - self.size)

    def _append(self, features: Float32Array, labels: LabelArray, keys: UInt64Array, numbers: Int64Array) -> None:
        end = self._held + len(keys)
        if end > len(self._keys):
            self._grow(end, features.shape[1])
        new = slice(self._held, end)
        self._features[new] = features
        self._labels[new] = labels
        self._keys[new] = keys
        self._file_of[new] = len(self._files) - 1
        self._number[new] = numbers
        self._uids[new] = ""
        self._held = end

    def _grow(self, rows: int, width: int) -> None:
        # ndarray.resize reallocates, which moves large arrays by their page tables and never holds them twice.
        if not self._held:
            self._features = np.empty((0, width), np.float32)
        self._features.resize((rows, width), refcheck=False)
        for array in (self._labels, self._keys, self._file_of, self._number, self._uids):
            array.resize(rows, refcheck=False)

    def _drop(self, count: int) -> None:
        """Forgets the rows with the largest keys; rows from the end fill their places."""
        kept = self._held - count
        largest = np.argpartition(self._keys[: self._held], kept)[kept:]
        holes = largest[largest < kept]
        staying = np.setdiff1d(np.arange(kept, self._held), largest, assume_unique=True)
        for array in (self._features, self._labels, self._keys, self._file_of, self._number, self._uids):
            array[holes] = array[staying]
        self._held = kept
        self._limit = self._keys[:kept].max()

    def finish(self) -> Sample:
        """Ends the sampling and hands its memory over."""
        held = slice(0, self._held)
        order = np.lexsort((self._number[held], self._file_of[held]))
        offsets = np.concatenate(([0], np.cumsum(self._files)))[self._file_of[held]]
        ids: IdArray = (offsets + self._number[held])[order]
        if self._named:
            ids = np.array([uid or str(number) for uid, number in zip(self._uids[held][order], ids, strict=True)])
        return Sample(
            features=self._features[held],
            labels=self._labels[held][order].astype(self._label_type),
            ids=ids,
            order=order,
            rows_read=self.rows_read,
        )
