"""Gaussian noise whose value at a pixel follows from the seed and the pixel's place alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box
from glass_train.delivery.step import Size, cut

_TILE = 64  # pixels on a side
_QUANTILES = 1 << 16


@dataclass(frozen=True)
class Noise:
    """Independent noise in every sample, of standard deviation `sigma` levels, rounded to whole levels.

    A counter generator (Philox) is keyed with `seed` and started at the place of a tile of 64 x 64 pixels, so that a
    window costs the tiles that it touches.
    """

    sigma: float
    seed: int  # 0..2^64-1

    def size_after(self, size: Size) -> Size:
        """The same size."""
        return size

    def needed(self, box: Box, size: Size) -> Box:
        """The same box."""
        return box

    def apply(self, pixels: Pixels, part: Box, size: Size, box: Box) -> Pixels:
        """New memory; sums are cut off at 0 and 255."""
        result = np.ascontiguousarray(cut(pixels, part, box)).astype(np.int16)
        levels = _levels(self.sigma)
        for row in range(box.top // _TILE, -(-(box.top + box.height) // _TILE)):
            for column in range(box.left // _TILE, -(-(box.left + box.width) // _TILE)):
                self._add_tile(result, box, row, column, levels)
        return np.clip(result, 0, 255).astype(np.uint8)

    def _add_tile(self, result: NDArray[np.int16], box: Box, row: int, column: int, levels: NDArray[np.int16]) -> None:
        top, left = max(box.top, row * _TILE), max(box.left, column * _TILE)
        bottom = min(box.top + box.height, (row + 1) * _TILE)
        right = min(box.left + box.width, (column + 1) * _TILE)
        noise = levels[_tile_words(self.seed, row, column)]
        inside = noise[top - row * _TILE : bottom - row * _TILE, left - column * _TILE : right - column * _TILE]
        result[top - box.top : bottom - box.top, left - box.left : right - box.left] += inside


def _tile_words(seed: int, row: int, column: int) -> NDArray[np.uint16]:
    """Uniform words, uint16 (64, 64, 3): 4 of them in each of Philox's outputs of 64 bits."""
    generator = np.random.Philox(key=[seed, 0], counter=[0, row, column, 0])
    return generator.random_raw(_TILE * _TILE * 3 // 4).astype("<u8").view("<u2").reshape(_TILE, _TILE, 3)


@lru_cache(maxsize=16)
def _levels(sigma: float) -> NDArray[np.int16]:
    """Level by uniform word: the rounded quantiles of the normal distribution."""
    return np.rint(_normal_quantiles() * sigma).astype(np.int16)


@lru_cache(maxsize=1)
def _normal_quantiles() -> NDArray[np.float64]:
    normal = NormalDist()
    return np.array([normal.inv_cdf((word + 0.5) / _QUANTILES) for word in range(_QUANTILES)])
