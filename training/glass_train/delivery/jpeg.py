"""A round of JPEG by libjpeg-turbo: baseline, the tables of the standard, triangle upsampling, as OpenCV codes it.

JPEG codes in minimum coded units (MCUs) on a grid from the picture's corner: 8 x 8 pixels, or 16 in a direction in
which chroma has half the samples. Units are coded independently of each other; only the decoder's triangle filter
looks at the next sample of chroma. So a window of the result needs its own pixels, one more on each side where chroma
is subsampled, and the rest of the units that these lie in. Units that the picture's edge cuts are padded from the
pixels at that edge, in a window as in the whole picture.

Not true of encoders that look further than one unit: trellis quantisation (mozjpeg), adaptive quantisation (jpegli).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np

from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box
from glass_train.delivery.step import Size, cut, grown

Subsampling: TypeAlias = Literal["4:4:4", "4:2:2", "4:2:0"]

# Width and height of a unit in pixels, and OpenCV's number for the sampling factors.
_UNITS: dict[Subsampling, tuple[int, int, int]] = {
    "4:4:4": (8, 8, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "4:2:2": (16, 8, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
    "4:2:0": (16, 16, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
}
# jdsample.c filters rows of more than two samples of chroma; shorter ones it repeats.
_NARROWEST = 5


@dataclass(frozen=True)
class Jpeg:
    """The picture coded as a JPEG of `quality` (1..100, libjpeg's scale) and decoded again."""

    quality: int
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
        return cut(_coded(cut(pixels, part, needed), self.quality, self.subsampling), needed, box)


def encode_jpeg(pixels: Pixels, quality: int, subsampling: Subsampling) -> bytes:
    """A baseline JPEG of `pixels`, uint8 (H, W, 3), RGB."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _UNITS[subsampling][2]]
    coded, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    assert coded
    return data.tobytes()


def _coded(pixels: Pixels, quality: int, subsampling: Subsampling) -> Pixels:
    data = np.frombuffer(encode_jpeg(pixels, quality, subsampling), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    assert decoded is not None
    assert decoded.dtype == np.uint8
    return decoded  # type: ignore[return-value]


def _down(position: int, unit: int) -> int:
    return position // unit * unit


def _up(position: int, unit: int) -> int:
    return -(-position // unit) * unit
