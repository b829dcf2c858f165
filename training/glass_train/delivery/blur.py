"""A light Gaussian blur, in OpenCV's fixed-point arithmetic: the same bits wherever in an array a pixel lies."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np

from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box
from glass_train.delivery.step import Size, cut, grown


@dataclass(frozen=True)
class Blur:
    """The picture blurred by a Gaussian of standard deviation `sigma` pixels, cut off at three of them."""

    sigma: float

    @property
    def radius(self) -> int:
        """Pixels on each side that a pixel of the result depends on."""
        return ceil(3 * self.sigma)

    def size_after(self, size: Size) -> Size:
        """The same size."""
        return size

    def needed(self, box: Box, size: Size) -> Box:
        """The box and the filter's radius around it."""
        return grown(box, self.radius, size)

    def apply(self, pixels: Pixels, part: Box, size: Size, box: Box) -> Pixels:
        """The picture is mirrored about its edges (101); a needed part ends there, or lies deep enough inside."""
        needed = self.needed(box, size)
        width = 2 * self.radius + 1
        piece = np.ascontiguousarray(cut(pixels, part, needed))
        blurred = cv2.GaussianBlur(piece, (width, width), self.sigma, borderType=cv2.BORDER_REFLECT_101)
        return cut(blurred, needed, box)  # type: ignore[arg-type]
