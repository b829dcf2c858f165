"""The views of several images side by side, in the arrays that the engines read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glass_rt.image.decode import Pixels


@dataclass(frozen=True, eq=False)
class Slot:
    """One image's place in a pack: arrays to write its views into. What is written here is what the engine reads."""

    global_view: NDArray[np.float32]  # (size, size, 3)
    crops: Pixels  # (K, size, size, 3)
    crop_range: range


class Pack:
    """A ragged batch: B global views, and N crops of which image i owns K_i.

    `reserve` hands out places until the pack is full; arrays are allocated once at their full size.
    """

    def __init__(self, crop_size: int, max_images: int, max_crops: int) -> None:
        self._globals = np.empty((max_images, crop_size, crop_size, 3), np.float32)
        self._crops = np.empty((max_crops, crop_size, crop_size, 3), np.uint8)
        self.slots: list[Slot] = []

    @property
    def num_crops(self) -> int:
        """Crops reserved so far."""
        return self.slots[-1].crop_range.stop if self.slots else 0

    def reserve(self, num_crops: int) -> Slot | None:
        """A place for an image with `num_crops` crops, or None where the pack has no room for it."""
        start = self.num_crops
        if len(self.slots) == len(self._globals) or start + num_crops > len(self._crops):
            return None
        crop_range = range(start, start + num_crops)
        slot = Slot(self._globals[len(self.slots)], self._crops[start : crop_range.stop], crop_range)
        self.slots.append(slot)
        return slot

    @property
    def global_views(self) -> NDArray[np.float32]:
        """float32 (B, size, size, 3) of the images reserved so far."""
        return self._globals[: len(self.slots)]

    @property
    def crops(self) -> Pixels:
        """uint8 (N, size, size, 3) of the crops reserved so far."""
        return self._crops[: self.num_crops]
