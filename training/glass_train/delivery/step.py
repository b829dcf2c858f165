"""One step of a delivery: what it makes of a whole picture, given only the part that a window of the result needs."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box

Size: TypeAlias = tuple[int, int]  # height, width


class Step(Protocol):
    """A change of a whole picture whose windows can be computed from windows.

    Every step obeys one law: for any box of the result, `apply` of the needed part equals the same box of `apply` of
    the whole picture, bit for bit.
    """

    def size_after(self, size: Size) -> Size:
        """Height and width of the result for a picture of `size`."""

    def needed(self, box: Box, size: Size) -> Box:
        """The part of a picture of `size` that `box` of the result is computed from; it lies inside the picture."""

    def apply(self, pixels: Pixels, part: Box, size: Size, box: Box) -> Pixels:
        """`box` of the result, uint8 (box.height, box.width, 3), RGB; it may be a view of `pixels`.

        `pixels`: `part` of a picture of `size`, uint8 (part.height, part.width, 3). `part` holds `needed(box, size)`.
        """


def whole(size: Size) -> Box:
    """The box that is the whole picture."""
    return Box(0, 0, *size)


def grown(box: Box, by: int, size: Size) -> Box:
    """`box` with a margin of `by` pixels on each side, cut off at the picture's edges."""
    top, left = max(box.top - by, 0), max(box.left - by, 0)
    bottom, right = min(box.top + box.height + by, size[0]), min(box.left + box.width + by, size[1])
    return Box(top, left, bottom - top, right - left)


def cut(pixels: Pixels, part: Box, box: Box) -> Pixels:
    """`box` out of `pixels`, which are `part` of the same picture; a view."""
    top, left = box.top - part.top, box.left - part.left
    return pixels[top : top + box.height, left : left + box.width]
