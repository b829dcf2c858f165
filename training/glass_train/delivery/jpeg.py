"""A round of JPEG by libjpeg-turbo: baseline, the tables of the standard, triangle upsampling, as OpenCV codes it.

JPEG codes in minimum coded units (MCUs) on a grid from the picture's corner: 8 x 8 pixels, or 16 in a direction in
which chroma has half the samples. Units are coded independently of each other; only the decoder's triangle filter
looks at the next sample of chroma. So a window of the result needs its own pixels, one more on each side where chroma
is subsampled, and the rest of the units that these lie in. Units that the picture's edge cuts are padded from the
pixels at that edge, in a window as in the whole picture.

Not true of encoders that look further than one unit: trellis quantisation (mozjpeg), adaptive quantisation (jpegli).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from io import BytesIO
from typing import Literal, TypeAlias

import cv2
import numpy as np
from PIL import Image

from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box
from glass_train.delivery.step import Size, cut, grown

Subsampling: TypeAlias = Literal["4:4:4", "4:2:2", "4:2:0"]
Tables: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

# Width and height of a unit in pixels, and OpenCV's number for the sampling factors.
_UNITS: dict[Subsampling, tuple[int, int, int]] = {
    "4:4:4": (8, 8, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "4:2:2": (16, 8, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
    "4:2:0": (16, 16, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
}
# jdsample.c filters rows of more than two samples of chroma; shorter ones it repeats.
_NARROWEST = 5


@dataclass(frozen=True)
class _Round(ABC):
    """One round of coding; `subsampling` decides about its units."""

    subsampling: Subsampling

    def size_after(self, size: Size) -> Size:
        """The same size."""
        return size

    def needed(self, box: Box, size: Size) -> Box:
        """The units that hold the box, and one pixel around it where chroma is subsampled."""
        unit_width, unit_height, _ = _UNITS[self.subsampling]
        box = grown(box, 1 if unit_width > 8 else 0, size)
        bottom = min(_up(box.top + box.height, unit_height), size[0])
        right = min(_up(box.left + box.width, unit_width), size[1])
        top, left = _down(box.top, unit_height), _down(box.left, unit_width)
        if right - left < _NARROWEST:
            left = max(left - unit_width, 0)
        return Box(top, left, bottom - top, right - left)

    def apply(self, pixels: Pixels, part: Box, size: Size, box: Box) -> Pixels:
        """A view of what the decoder gave."""
        needed = self.needed(box, size)
        data = np.frombuffer(self.encode(cut(pixels, part, needed)), np.uint8)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        assert decoded is not None, "it has just been coded"
        assert decoded.dtype == np.uint8
        return cut(decoded, needed, box)  # type: ignore[arg-type]

    @abstractmethod
    def encode(self, pixels: Pixels) -> bytes:
        """A baseline JPEG of `pixels`, uint8 (H, W, 3), RGB."""


@dataclass(frozen=True)
class Jpeg(_Round):
    """The picture coded as a JPEG of `quality` (1..100, the standard's tables on libjpeg's scale) and decoded again."""

    quality: int

    def encode(self, pixels: Pixels) -> bytes:
        """By OpenCV."""
        factors = _UNITS[self.subsampling][2]
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors]
        coded, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
        assert coded, "OpenCV writes JPEG"
        return data.tobytes()


@dataclass(frozen=True)
class JpegWithTables(_Round):
    """The picture coded with given quantisation tables, as another file has them, and decoded again.

    `tables`: 64 steps of luma and 64 of chroma, 1..255, row by row.
    """

    tables: Tables

    def encode(self, pixels: Pixels) -> bytes:
        """By Pillow: OpenCV takes no tables."""
        file = BytesIO()
        qtables = [list(table) for table in self.tables]
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.save(file, "JPEG", qtables=qtables, subsampling=self.subsampling)
        return file.getvalue()


def _down(position: int, unit: int) -> int:
    return position // unit * unit


def _up(position: int, unit: int) -> int:
    return -(-position // unit) * unit
