"""The two views of an image: the resized whole, and crops at original resolution."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glass_rt.image.decode import Pixels
from glass_rt.image.resize import resize_antialiased, resize_pillow
from glass_rt.image.sampling import Box

PREPROCESSING = 1  # goes up when decoding, resizing or sampling makes other views of the same image


class ViewWriter(Protocol):
    """Where views are written, and how: in memory, or on a device for engines that read them there."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of any content, as far as packs need one: rows, slices, lists of rows."""

    def write(self, pixels: Any, boxes: tuple[Box, ...], view: Any, crops: Any) -> None:
        """Writes the global view of an image, float32 (size, size, 3), and its windows, uint8 (K, size, size, 3).

        `pixels`: uint8 (H, W, 3), RGB, in memory; a writer on a device takes pixels that lie there too.
        """

    def close(self) -> None:
        """Frees what it holds; calling it twice is harmless."""


class HostViews:
    """Writes views into NumPy arrays."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array in memory, of any content."""
        return np.empty(shape, dtype)

    def write(self, pixels: Pixels, boxes: tuple[Box, ...], view: NDArray[np.float32], crops: Pixels) -> None:
        """Resizes the image into `view` and copies its windows into `crops`."""
        view[...] = global_view(pixels, len(view))
        cut_crops(pixels, boxes, crops)

    def close(self) -> None:
        """Nothing to do: NumPy frees its arrays itself."""


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
