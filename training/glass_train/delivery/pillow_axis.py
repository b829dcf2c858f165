"""The coefficients of Pillow's resize for some outputs of an axis, taken of the whole axis.

Source: Resample.c of Pillow (`precompute_coeffs`, `normalize_coeffs_8bpc`). Coefficients of a window alone (`box=`)
are rounded differently, a level in most windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sin
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Filter: TypeAlias = Literal["box", "bilinear", "bicubic", "lanczos"]
Reals: TypeAlias = NDArray[np.float64]

PRECISION_BITS = 32 - 8 - 2  # coefficients of an 8-bit image are integers of 22 bits
_OUTPUTS_AT_ONCE = 32  # of one product of matrices: the fewer, the fewer zeros in it, and the more calls


def _box(x: Reals) -> Reals:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: Reals) -> Reals:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _bicubic(x: Reals) -> Reals:
    x, a = np.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(x: Reals) -> Reals:
    return np.where((x >= -3.0) & (x < 3.0), _sinc(x) * _sinc(x / 3), 0.0)


def _sinc(x: Reals) -> Reals:
    angle = np.where(x == 0.0, 1.0, x * pi)  # any angle but 0, whose value is 1
    sines = np.array([sin(value) for value in angle.ravel().tolist()])  # the C library's, as in Pillow; not NumPy's own
    return np.where(x == 0.0, 1.0, sines.reshape(x.shape) / angle)


_FILTERS: dict[Filter, tuple[Callable[[Reals], Reals], float]] = {  # and their support in output pixels
    "box": (_box, 0.5),
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


@dataclass(frozen=True)
class Axis:
    """`length` pixels resized to `size` by `kernel`."""

    length: int
    size: int
    kernel: Filter

    def source(self, start: int, stop: int) -> tuple[int, int]:
        """The first source pixel that outputs start..stop-1 depend on, and one past the last."""
        if self.length == self.size:
            return start, stop
        first, past = self._bounds(np.array([start, stop - 1]))
        return int(first[0]), int(past[1])

    def resize(self, planes: Reals, first: int, start: int, stop: int) -> Reals:
        """Outputs start..stop-1 along the last axis: whole numbers 0..255 as float64 (..., stop - start).

        `planes`: whole numbers 0..255 as float64 (..., n), source pixels from `first` on. Sums of integers below 2^53
        are exact in any order.
        """
        if self.length == self.size:
            return planes[..., start - first : stop - first]
        result = np.empty((*planes.shape[:-1], stop - start))
        taps, weights = self._taps(start, stop)
        for begin in range(0, stop - start, _OUTPUTS_AT_ONCE):
            block = slice(begin, begin + _OUTPUTS_AT_ONCE)
            low, matrix = _banded(taps[block], weights[block])
            band = planes[..., low - first : low - first + len(matrix)]
            np.matmul(band, matrix[: band.shape[-1]], out=result[..., block])  # the rest of it is padding
        result += 1 << (PRECISION_BITS - 1)
        result *= 2.0**-PRECISION_BITS
        return np.clip(np.floor(result, out=result), 0, 255, out=result)

    def _taps(self, start: int, stop: int) -> tuple[NDArray[np.int64], Reals]:
        """Of outputs start..stop-1: the first source pixel (n,), and integer weights from there on (n, most taps)."""
        scale = self.length / self.size
        function, _ = _FILTERS[self.kernel]
        first, past = self._bounds(np.arange(start, stop))
        counts, centre = past - first, (np.arange(start, stop) + 0.5) * scale
        place = np.arange(counts.max())
        distance = (place + first[:, None] - centre[:, None] + 0.5) * (1.0 / max(scale, 1.0))
        weights = np.where(place < counts[:, None], function(distance), 0.0)
        total = weights.cumsum(axis=1)[:, -1:]  # in Pillow's order: its roundings are matched
        scaled = weights / np.where(total == 0.0, 1.0, total) * (1 << PRECISION_BITS)
        return first, np.trunc(scaled + np.copysign(0.5, scaled))

    def _bounds(self, outputs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first source pixel of each output, and one past its last."""
        scale = self.length / self.size
        support = _FILTERS[self.kernel][1] * max(scale, 1.0)
        centre = (outputs + 0.5) * scale
        first, past = (centre - support + 0.5).astype(np.int64), (centre + support + 0.5).astype(np.int64)
        return np.maximum(first, 0), np.minimum(past, self.length)


def _banded(first: NDArray[np.int64], weights: Reals) -> tuple[int, Reals]:
    """The first source pixel of some outputs, and their weights from there on: float64 (sources, outputs)."""
    low, outputs = int(first[0]), len(first)
    matrix = np.zeros((int(first[-1]) - low + weights.shape[1], outputs))
    rows = (first - low)[:, None] + np.arange(weights.shape[1])
    matrix[rows, np.arange(outputs)[:, None]] = weights
    return low, matrix
