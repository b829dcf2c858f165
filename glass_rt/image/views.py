"""The two views of an image: the resized whole, and crops at original resolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glass_rt.image.decode import Pixels
from glass_rt.image.resize import resize_antialiased, resize_pillow
from glass_rt.image.sampling import Box


def global_view(pixels: Pixels, size: int) -> NDArray[np.float32]:
    """GLASS's global view: float32 (size, size, 3), RGB, 0..255; the aspect ratio is not kept."""
    return resize_antialiased(pixels, size)


def baseline_view(pixels: Pixels, size: int) -> NDArray[np.float32]:
    """The resize-only model's view: Pillow's uint8 bilinear resize, as float32 (size, size, 3), RGB, 0..255."""
    return resize_pillow(pixels, size).astype(np.float32)


def cut_crops(pixels: Pixels, boxes: tuple[Box, ...], out: Pixels) -> None:
    """Copies the windows `boxes` into `out`, uint8 (len(boxes), size, size, 3), padding with zeros.

    This is the only copy a crop ever sees: `out` is a slice of the batch that the engine reads.
    """
    for box, crop in zip(boxes, out, strict=True):
        crop[: box.height, : box.width] = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        crop[box.height :] = 0
        crop[: box.height, box.width :] = 0
