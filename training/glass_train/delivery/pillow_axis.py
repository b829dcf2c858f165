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

PRECISION_BITS = 32 - 8 - 2  # coefficients of an 8-bit image are integers of 22 bits
_OUTPUTS_AT_ONCE = 32  # of one product of matrices: the fewer, the fewer zeros in it, and the more calls


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def _bilinear(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def _bicubic(x: float) -> float:
    x = abs(x)
    a = -0.5
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    if x < 2.0:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0.0 else sin(x * pi) / (x * pi)


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3.0 <= x < 3.0 else 0.0


_FILTERS: dict[Filter, tuple[Callable[[float], float], float]] = {  # and their support in output pixels
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
        return self._bounds(start)[0], self._bounds(stop - 1)[1]

    def resize(self, planes: NDArray[np.float64], first: int, start: int, stop: int) -> NDArray[np.float64]:
        """Outputs start..stop-1 along the last axis: whole numbers 0..255 as float64 (..., stop - start).

        `planes`: whole numbers 0..255 as float64 (..., n), source pixels from `first` on. Sums of integers below 2^53
        are exact in any order.
        """
        if self.length == self.size:
            return planes[..., start - first : stop - first]
        result = np.empty((*planes.shape[:-1], stop - start))
        for begin in range(start, stop, _OUTPUTS_AT_ONCE):
            end = min(begin + _OUTPUTS_AT_ONCE, stop)
            low, weights = self._weights(begin, end)
            band = planes[..., low - first : low - first + len(weights)]
            np.matmul(band, weights, out=result[..., begin - start : end - start])
        result += 1 << (PRECISION_BITS - 1)
        result *= 2.0**-PRECISION_BITS
        return np.clip(np.floor(result, out=result), 0, 255, out=result)

    def _weights(self, start: int, stop: int) -> tuple[int, NDArray[np.float64]]:
        """The first source pixel, and integer weights from there on: float64 (sources, stop - start)."""
        low, high = self.source(start, stop)
        matrix = np.zeros((high - low, stop - start))
        for output in range(start, stop):
            first, weights = self._taps(output)
            matrix[first - low : first - low + len(weights), output - start] = weights
        return low, matrix

    def _taps(self, output: int) -> tuple[int, NDArray[np.float64]]:
        """The first source pixel of an output, and its integer weights."""
        function, _ = _FILTERS[self.kernel]
        scale = self.length / self.size
        first, stop = self._bounds(output)
        centre = (output + 0.5) * scale
        inverse = 1.0 / max(scale, 1.0)
        weights = np.array([function((x - centre + 0.5) * inverse) for x in range(first, stop)])
        total = weights.cumsum()[-1]  # in Pillow's order: its roundings are matched
        scaled = (weights / total if total != 0.0 else weights) * (1 << PRECISION_BITS)
        return first, np.trunc(scaled + np.copysign(0.5, scaled))

    def _bounds(self, output: int) -> tuple[int, int]:
        scale = self.length / self.size
        support = _FILTERS[self.kernel][1] * max(scale, 1.0)
        centre = (output + 0.5) * scale
        return max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), self.length)
