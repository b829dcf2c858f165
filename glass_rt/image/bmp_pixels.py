"""Pixels of BMPs whose colours are bits of a number: OpenCV keeps 5 bits as they are, and looks at no masks of 32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glass_rt.image.header.bmp import bmp_layout


def unmasked(data: bytes) -> NDArray[np.uint8]:
    """RGB (H, W, 3) of a BMP whose layout has masks, scaled to 0..255 as Pillow scales them: rounded down.

    The header was read before, so all rows are there.
    """
    layout = bmp_layout(data)
    shape = (layout.rows, layout.width)
    pixels = np.empty((*shape, 3), np.uint8)
    if layout.bits == 16:
        numbers = np.ndarray(shape, "<u2", data, layout.offset, (layout.pitch, 2))
        tables = [_scaled(mask) for mask in layout.masks]
        for row, result in zip(numbers, pixels[:: 1 if layout.top_down else -1], strict=True):
            for channel, table in enumerate(tables):
                result[:, channel] = table[row]
        return pixels
    size = layout.bits // 8
    stored = np.ndarray((*shape, size), np.uint8, data, layout.offset, (layout.pitch, size, 1))
    for channel, mask in enumerate(layout.masks):
        pixels[:, :, channel] = stored[:: 1 if layout.top_down else -1, :, mask.bit_length() // 8 - 1]
    return pixels


def _scaled(mask: int) -> NDArray[np.uint8]:
    """The colour (65536,) of every number of 16 bits: what the mask leaves of it, from 0 to 255."""
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    values = (np.arange(1 << 16, dtype=np.uint32) >> shift) & most
    return (values * 255 // most).astype(np.uint8)
