"""Dimension reduction: random projections that keep squared distances in expectation.

A projection is made anew from its seed wherever it is needed, by SHAKE-256, so that it is the same on every
machine. Rows are projected in float64 and rounded once to float32.
"""

from dataclasses import dataclass
from hashlib import shake_256
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from knn_container.batch import Features, Float32Array, Float64Array, SparseRows, dense

SIGN, FJLT, ROTATION = "sign", "fjlt", "rotation"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Reduction:
    """What a projection is made of.

    Attributes:
        type: `sign`, `fjlt`, or `rotation`, which is fjlt with a target of all columns.
        target: columns of the projected rows.
        seed: any integer.
    """

    type: str
    target: int
    seed: int

    def check(self, width: int) -> None:
        """Checks values that come from outside against the columns of the rows.

        Raises:
            ValueError: there is no such projection.
        """
        numbers = (self.target, self.seed)
        known = self.type in (SIGN, FJLT, ROTATION) and all(type(number) is int for number in numbers)
        if not known or not 0 < self.target <= width:
            raise ValueError(f"there is no reduction {self} of {width} columns")


class Projection(Protocol):
    """Turns rows as they come into rows as the index holds them."""

    def __call__(self, features: Features) -> Float32Array:
        """Projects (n, d) rows."""


@dataclass(frozen=True)
class ZeroPadding:
    """Leaves rows as they are, but for zero columns up to `width`.

    Attributes:
        width: columns of the answer, at least those of the rows.
    """

    width: int

    def __call__(self, features: Features) -> Float32Array:
        """Pads (n, d) rows to (n, width)."""
        rows = dense(features)
        return np.pad(rows, ((0, 0), (0, self.width - rows.shape[1]))) if rows.shape[1] < self.width else rows


class SignProjection:
    """Multiplies by a dense random matrix of +-1/sqrt(target), in O(n d target).

    Achlioptas, "Database-friendly random projections", PODC 2001. Sparse rows cost their stored values alone.

    Args:
        width: d, columns of the rows.
        target: columns of the answer.
        seed: any integer.
    """

    def __init__(self, width: int, target: int, seed: int) -> None:
        self._signs = _random_signs(width * target, f"sign {seed}").reshape(width, target)

    def __call__(self, features: Features) -> Float32Array:
        """Projects (n, d) rows to (n, target)."""
        width, target = self._signs.shape
        if not isinstance(features, SparseRows):
            return _rounded(_exact_sums(features, self._signs, width) / np.sqrt(target))
        sums = np.zeros((len(features), target))
        for row, (start, end) in enumerate(pairwise(features.starts)):
            values = features.values[np.newaxis, start:end]
            sums[row] = _exact_sums(values, self._signs[features.columns[start:end]], width)[0]
        return _rounded(sums / np.sqrt(target))


def _exact_sums(rows: Float32Array, signs: Float64Array, width: int) -> Float64Array:
    """Multiplies (n, m) rows by (m, target) signs.

    BLAS adds in an order that depends on how many rows there are, and where large columns cancel that shows. Each
    row is therefore cut at a bit below which `width` values of its largest magnitude fill float64: sums of the
    upper parts are exact in any order, and of the lower parts the rounding is 53 bits further down.
    """
    values = rows.astype(np.float64)
    largest = np.abs(values).max(axis=1, keepdims=True, initial=0)
    _, exponent = np.frexp(largest * width)
    grid = np.ldexp(1.0, exponent - 52)
    upper = np.round(values / grid) * grid
    lower = values - upper
    sums = upper @ signs
    return np.asarray(sums + lower @ signs if lower.any() else sums)


class FastJohnsonLindenstrauss:
    """Random signs, an orthogonal Fourier transform, and a sample of its coefficients, in O(n d log d).

    The subsampled randomised form of the transform of Ailon and Chazelle (STOC 2006), as in Tropp, "Improved
    analysis of the subsampled randomized Hadamard transform", 2011, with Hartley's real transform (Proc. IRE 1942)
    in Hadamard's place: it takes any dimension.

    Args:
        width: d, columns of the rows.
        target: columns of the answer.
        seed: any integer.
    """

    def __init__(self, width: int, target: int, seed: int) -> None:
        # The root of width / target for the sample, that of 1 / width to make the transform orthogonal.
        self._signs: Float64Array = _random_signs(width, f"fjlt {seed}") / np.sqrt(target)
        chosen = _random_sample(width, target, f"fjlt sample {seed}")
        # rfft leaves out the conjugate half: coefficient j above width / 2 is the conjugate of width - j.
        self._mirrored = chosen > width // 2
        self._chosen = np.where(self._mirrored, width - chosen, chosen)

    def __call__(self, features: Features) -> Float32Array:
        """Projects (n, d) rows to (n, target)."""
        spectrum = np.fft.rfft(dense(features) * self._signs, axis=1)[:, self._chosen]
        return _rounded(spectrum.real + np.where(self._mirrored, spectrum.imag, -spectrum.imag))


def _random_bytes(count: int, purpose: str) -> NDArray[np.uint8]:
    return np.frombuffer(shake_256(purpose.encode()).digest(count), np.uint8)


def _random_signs(count: int, purpose: str) -> Float64Array:
    bits = np.unpackbits(_random_bytes(-(-count // 8), purpose), count=count)
    return np.where(bits == 1, -1.0, 1.0)


def _random_sample(population: int, size: int, purpose: str) -> NDArray[np.int64]:
    keys = _random_bytes(8 * population, purpose).view("<u8")
    return np.sort(np.argsort(keys, kind="stable")[:size])


def _rounded(rows: Float64Array) -> Float32Array:
    return rows.clip(-_LARGEST, _LARGEST).astype(np.float32)


def project_for(reduction: Reduction | None, width: int, index_width: int) -> Projection:
    """Makes the projection of a model's rows.

    Args:
        reduction: None for zero padding alone.
        width: columns of the rows as they come.
        index_width: columns of the rows in the index.
    """
    if reduction is None:
        return ZeroPadding(index_width)
    kind = SignProjection if reduction.type == SIGN else FastJohnsonLindenstrauss
    return kind(width, reduction.target, reduction.seed)
