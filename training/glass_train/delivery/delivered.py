"""A picture after its delivery: any window of it, or all of it, and its views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glass_rt.image import views
from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box
from glass_train.delivery.step import Size, Step, cut, whole

# From this share of the source on, one window costs as much as the picture, which then serves the other windows too.
_MOST_OF_IT = 0.5


class DeliveredImage:
    """`pixels`, uint8 (H, W, 3), RGB, after `steps`; nothing is computed before it is asked for.

    `pixels` are neither copied nor changed. Belongs to one thread.
    """

    def __init__(self, pixels: Pixels, steps: Sequence[Step] = ()) -> None:
        self._source = pixels
        self._steps = tuple(steps)
        self._sizes: list[Size] = [(pixels.shape[0], pixels.shape[1])]
        for step in self._steps:
            self._sizes.append(step.size_after(self._sizes[-1]))
        self._whole = pixels if not self._steps else None

    @property
    def size(self) -> Size:
        """Height and width of the delivered picture."""
        return self._sizes[-1]

    def pixels(self) -> Pixels:
        """The whole delivered picture, uint8 (H', W', 3); computed once."""
        if self._whole is None:
            self._whole = self._compute(whole(self.size))
        return self._whole

    def window(self, box: Box) -> Pixels:
        """`box` of the delivered picture, uint8 (box.height, box.width, 3), bit-equal to that box of `pixels()`.

        `box` lies inside the picture. The result may share memory with others.
        """
        if self._whole is None:
            needed = self._parts(box)[0]
            if needed.height * needed.width < _MOST_OF_IT * self._sizes[0][0] * self._sizes[0][1]:
                return self._compute(box)
        return cut(self.pixels(), whole(self.size), box)

    def crops(self, boxes: Sequence[Box], size: int) -> Pixels:
        """The windows `boxes` as uint8 (len(boxes), size, size, 3), padded with zeros at the bottom and right."""
        result = np.zeros((len(boxes), size, size, 3), np.uint8)
        for box, crop in zip(boxes, result, strict=True):
            crop[: box.height, : box.width] = self.window(box)
        return result

    def global_view(self, size: int = 224) -> NDArray[np.float32]:
        """GLASS's global view of the delivered picture: float32 (size, size, 3), 0..255."""
        return views.global_view(self.pixels(), size)

    def baseline_view(self, size: int = 224) -> NDArray[np.float32]:
        """The resize-only model's view: whole numbers 0..255 as float32 (size, size, 3)."""
        return views.baseline_view(self.pixels(), size)

    def _parts(self, box: Box) -> list[Box]:
        """What each step takes, and at the end `box`."""
        parts = [box]
        for step, size in zip(reversed(self._steps), reversed(self._sizes[:-1]), strict=True):
            parts.insert(0, step.needed(parts[0], size))
        return parts

    def _compute(self, box: Box) -> Pixels:
        parts = self._parts(box)
        pixels = cut(self._source, whole(self._sizes[0]), parts[0])
        for step, size, part, following in zip(self._steps, self._sizes, parts, parts[1:], strict=False):
            pixels = step.apply(pixels, part, size, following)
        return pixels
