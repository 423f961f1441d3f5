"""A uniform random sample of rows, chosen by place: bottom-k sampling.

Each row gets a key, a hash of the seed, its file's path and its number in that file; the rows with the smallest
keys are the sample. The sample so depends neither on the order in which files are read nor on who reads them
(Cohen and Kaplan, "Summarizing Data using Bottom-k Sketches", PODC 2007). Several readers each keep the smallest keys
of what they read; the smallest of all of these are the smallest of all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import Features, Float32Array, Float64Array, IdArray, Int64Array, LabelArray, dense

UInt64Array = NDArray[np.uint64]
LARGEST_KEY = 2**64 - 1
_SPARE = 16  # to look for the largest keys at every batch would take longer than the reading
_GRID = 256  # keys that are asked about at a time in the search for the last key of a sample


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
    digest = blake2b(f"{seed}\0".encode() + _bytes(path), digest_size=16).digest()
    first, second = np.frombuffer(digest, "<u8")
    numbers = np.arange(start, start + count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        return _mix(_mix(numbers * np.uint64(0x9E3779B97F4A7C15) + first) ^ second)


def _mix(bits: UInt64Array) -> UInt64Array:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _bytes(path: str) -> bytes:
    """A path as the bytes by which files are ordered."""
    return path.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Sample:
    """The rows that stay, in data order once `order` is applied.

    Attributes:
        features: (n, d) float32, in the order in which memory holds them.
        labels: (n,) in data order, in the narrowest type that held all labels read.
        ids: (n,) in data order: each row's running number over all rows read, from 0, as int64; its own name, where
            some row read has one, and the number as text where it has none.
        order: (n,) the places of `features` in data order; None where they are in that order.
        rows_read: how many rows there were to choose from.
    """

    features: Float32Array
    labels: LabelArray
    ids: IdArray
    order: Int64Array | None
    rows_read: int

    def __len__(self) -> int:
        return len(self.ids)

    def blocks(self, rows: int) -> Iterator[Float32Array]:
        """Gives the features in data order, `rows` at a time, so that they need not be copied whole."""
        for start in range(0, len(self), rows):
            chosen = slice(start, start + rows)
            yield self.features[chosen if self.order is None else self.order[chosen]]


@dataclass(frozen=True)
class Summary:
    """What one reader has read and kept, in few bytes.

    Attributes:
        files: rows in each file, as far as it was read.
        rows: how many are kept.
        rows_read: how many were offered.
        width: d of the rows kept; 0 if there was none.
        label_type: numpy's name of the narrowest type that held all labels read; none if there was no row.
    """

    files: dict[str, int]
    rows: int
    rows_read: int
    width: int
    label_type: str | None


@dataclass(frozen=True)
class Places:
    """Where a reader's rows come from, and what else is known of them but their features, in data order.

    Attributes:
        files: names of files.
        file_of: (n,) int32, each row's file.
        numbers: (n,) int64, each row's number in its file.
        labels: (n,) float64.
        uids: the rows' own names, empty where a row has none; None if no row that was read has one.
    """

    files: list[str]
    file_of: NDArray[np.int32]
    numbers: Int64Array
    labels: Float64Array
    uids: list[str] | None


class BottomK:
    """Keeps the `size` rows with the smallest keys of all that are added.

    Memory is that of the rows kept, a 16th more, and of one batch: arrays grow in place, by what a batch needs, and
    rows that are too many are dropped when there is no room for others.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.rows_read = 0
        self._files: dict[str, int] = {}  # their places in the next
        self._rows: list[int] = []  # in each file
        self._held = 0
        self._limit = np.uint64(LARGEST_KEY)
        self._features: Float32Array = np.empty((0, 0), np.float32)
        self._labels = np.empty(0, np.float64)
        self._label_type: np.dtype[Any] | None = None
        self._keys = np.empty(0, np.uint64)
        self._file_of = np.empty(0, np.int32)
        self._number = np.empty(0, np.int64)
        self._uids = np.empty(0, object)
        self._named = False
        self._order: Int64Array = np.empty(0, np.int64)

    def __len__(self) -> int:
        return min(self._held, self.size)

    def add(
        self,
        file: str,
        start: int,
        features: Features,
        labels: LabelArray,
        *,
        uids: Sequence[str] = (),
        project: Callable[[Features], Float32Array] = dense,
    ) -> None:
        """Offers consecutive rows of one file.

        Args:
            file: its path below the channel.
            start: the first row's number in the file.
            features: (n, d) rows.
            labels: (n,) labels.
            uids: the rows' names, if they have any.
            project: turns the rows that are chosen into those that are kept.
        """
        place = self._files.setdefault(file, len(self._files))
        if place == len(self._rows):
            self._rows.append(0)
        self._rows[place] = max(self._rows[place], start + len(labels))
        self.rows_read += len(labels)
        self._label_type = labels.dtype if self._label_type is None else np.result_type(self._label_type, labels)
        keys = row_keys(self.seed, file, start, len(labels))
        chosen = np.flatnonzero(keys <= self._limit)
        new = self._append(project(features[chosen]), labels[chosen], keys[chosen], start + chosen)
        self._file_of[new] = place
        if uids:
            self._named = True
            self._uids[new] = np.array(uids, object)[chosen]

    def _append(self, features: Float32Array, labels: LabelArray, keys: UInt64Array, numbers: Int64Array) -> slice:
        if self._held + len(keys) > max(len(self._keys), self.size + self.size // _SPARE):
            self._trim()
        end = self._held + len(keys)
        if end > len(self._keys):
            self._grow(end, features.shape[1])
        new = slice(self._held, end)
        self._features[new] = features
        self._labels[new] = labels
        self._keys[new] = keys
        self._number[new] = numbers
        self._uids[new] = ""
        self._held = end
        return new

    def _grow(self, rows: int, width: int) -> None:
        # ndarray.resize reallocates, which moves large arrays by their page tables and never holds them twice.
        if not self._held:
            self._features = np.empty((0, width), np.float32)
        self._features.resize((rows, width), refcheck=False)
        for array in (self._labels, self._keys, self._file_of, self._number, self._uids):
            array.resize(rows, refcheck=False)

    def _trim(self) -> None:
        if self._held > self.size:
            self._drop(self._held - self.size)

    def _drop(self, count: int) -> None:
        """Forgets the rows with the largest keys; rows from the end fill their places."""
        kept = self._held - count
        largest = np.argpartition(self._keys[: self._held], kept)[kept:]
        holes = largest[largest < kept]
        staying = np.setdiff1d(np.arange(kept, self._held), largest, assume_unique=True)
        for array in (self._features, self._labels, self._keys, self._file_of, self._number, self._uids):
            array[holes] = array[staying]
        self._held = kept
        self._limit = self._keys[:kept].max(initial=0)

    def summary(self) -> Summary:
        """What has been read and kept."""
        self._trim()
        return Summary(
            files=dict(zip(self._files, self._rows, strict=True)),
            rows=self._held,
            rows_read=self.rows_read,
            width=self._features.shape[1],
            label_type=None if self._label_type is None else str(self._label_type),
        )

    def count(self, keys: UInt64Array) -> Int64Array:
        """How many rows that are kept have at most each of (m,) keys."""
        self._trim()
        return np.searchsorted(np.sort(self._keys[: self._held]), keys, side="right")

    def settle(self, limit: int = LARGEST_KEY) -> Places:
        """Forgets rows with keys above `limit`, ends the sampling and tells where the rows left come from."""
        self._trim()
        largest = int(np.count_nonzero(self._keys[: self._held] > np.uint64(limit)))
        if largest:
            self._drop(largest)
        held = slice(0, self._held)
        names = list(self._files)
        ranks = np.empty(len(names), np.int32)
        ranks[sorted(range(len(names)), key=lambda place: _bytes(names[place]))] = np.arange(len(names))
        self._order = np.lexsort((self._number[held], ranks[self._file_of[held]]))
        return Places(
            files=names,
            file_of=self._file_of[held][self._order],
            numbers=self._number[held][self._order],
            labels=self._labels[held][self._order],
            uids=self._uids[held][self._order].tolist() if self._named else None,
        )

    def rows(self, start: int, stop: int) -> Float32Array:
        """Rows that are left after `settle`, by their numbers in data order."""
        return self._features[self._order[start:stop]]

    def finish(self) -> Sample:
        """Ends the sampling and hands its memory over."""
        labels, ids, _ = merge([self.summary()], [self.settle()])
        self._features.resize((self._held, self._features.shape[1]), refcheck=False)
        return Sample(self._features, labels, ids, self._order, self.rows_read)


def last_key(size: int, count: Callable[[UInt64Array], Int64Array]) -> int:
    """Finds the largest key of a sample that several readers hold together.

    Args:
        size: rows in the sample, at most as many as there are.
        count: tells how many rows of all readers have at most each of (m,) keys.

    Returns:
        The `size`-th smallest key, after at most 8 calls of `count`.
    """
    low, high = 0, LARGEST_KEY
    while low < high:
        grid = sorted({low + (high - low) * part // _GRID for part in range(1, _GRID)} | {low, high})
        place = int(np.searchsorted(count(np.array(grid, np.uint64)), size))
        high = grid[place]
        low = grid[place - 1] + 1 if place else high
    return high


def merge(summaries: Sequence[Summary], parts: Sequence[Places]) -> tuple[LabelArray, IdArray, list[Int64Array]]:
    """Puts the rows of several readers into data order.

    Args:
        summaries: of each reader; a file that several have read from counts as long as the longest says.
        parts: of each reader, the rows that it has kept.

    Returns:
        (n,) labels and (n,) ids of a `Sample`, and for each reader the places of its rows among the n.
    """
    files: dict[str, int] = {}
    for summary in summaries:
        for name, rows in summary.files.items():
            files[name] = max(files.get(name, 0), rows)
    names = sorted(files, key=_bytes)
    ranks = {name: rank for rank, name in enumerate(names)}
    offsets = np.cumsum([0, *(files[name] for name in names)])
    rank_of = np.concatenate([np.array([ranks[it] for it in part.files], np.int64)[part.file_of] for part in parts])
    numbers = np.concatenate([part.numbers for part in parts])
    ids: IdArray = offsets[rank_of] + numbers
    order = np.argsort(ids, kind="stable")
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    types = [np.dtype(it.label_type) for it in summaries if it.label_type]
    labels = np.concatenate([part.labels for part in parts]).astype(np.result_type(*types) if types else np.float32)
    if any(part.uids is not None for part in parts):
        uids = [uid for part in parts for uid in part.uids or [""] * len(part.numbers)]
        ids = np.array([uid or str(number) for uid, number in zip(uids, ids, strict=True)])
    cuts = np.cumsum([len(part.numbers) for part in parts])[:-1]
    return labels[order], ids[order], np.split(places, cuts)
