"""Steps that move pixels and change none: flips, and a crop of the picture."""

from __future__ import annotations

from dataclasses import dataclass

from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box
from glass_train.delivery.step import Size, cut


@dataclass(frozen=True)
class Flip:
    """The picture mirrored left to right, upside down, or both."""

    horizontal: bool = False
    vertical: bool = False

    def size_after(self, size: Size) -> Size:
        """The same size."""
        return size

    def needed(self, box: Box, size: Size) -> Box:
        """The mirrored box."""
        top = size[0] - box.top - box.height if self.vertical else box.top
        left = size[1] - box.left - box.width if self.horizontal else box.left
        return Box(top, left, box.height, box.width)

    def apply(self, pixels: Pixels, part: Box, size: Size, box: Box) -> Pixels:
        """A view with negative strides."""
        piece = cut(pixels, part, self.needed(box, size))
        return piece[:: -1 if self.vertical else 1, :: -1 if self.horizontal else 1]


@dataclass(frozen=True)
class Crop:
    """A part of the picture in the place of the whole; `box` lies inside the picture."""

    box: Box

    def size_after(self, size: Size) -> Size:
        """The size of the part."""
        return self.box.height, self.box.width

    def needed(self, box: Box, size: Size) -> Box:
        """The same pixels, counted from the picture's corner."""
        return Box(self.box.top + box.top, self.box.left + box.left, box.height, box.width)

    def apply(self, pixels: Pixels, part: Box, size: Size, box: Box) -> Pixels:
        """A view."""
        return cut(pixels, part, self.needed(box, size))
