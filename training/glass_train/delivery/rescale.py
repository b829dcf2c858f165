"""The picture at another size: by a factor, or as a thumbnail; bit-equal to Pillow's resize of the whole picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box
from glass_train.delivery.pillow_axis import Axis, Filter
from glass_train.delivery.step import Size, cut, whole

_RESAMPLING: dict[Filter, Image.Resampling] = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Rescale:
    """Both sides times `factor`, rounded, at least one pixel."""

    factor: float
    kernel: Filter

    def size_after(self, size: Size) -> Size:
        """The rounded sides."""
        return max(round(size[0] * self.factor), 1), max(round(size[1] * self.factor), 1)

    def needed(self, box: Box, size: Size) -> Box:
        """The pixels under the filter."""
        return _needed(box, size, self.size_after(size), self.kernel)

    def apply(self, pixels: Pixels, part: Box, size: Size, box: Box) -> Pixels:
        """New memory, or a view where no pixel moves."""
        return _apply(pixels, part, size, self.size_after(size), box, self.kernel)


@dataclass(frozen=True)
class Thumbnail:
    """The shorter side brought to `side` pixels, the longer in proportion; smaller pictures stay as they are."""

    side: int
    kernel: Filter

    def size_after(self, size: Size) -> Size:
        """The thumbnail's size."""
        factor = self.side / min(size)
        return size if factor >= 1 else (max(round(size[0] * factor), 1), max(round(size[1] * factor), 1))

    def needed(self, box: Box, size: Size) -> Box:
        """The pixels under the filter."""
        return _needed(box, size, self.size_after(size), self.kernel)

    def apply(self, pixels: Pixels, part: Box, size: Size, box: Box) -> Pixels:
        """New memory, or a view where no pixel moves."""
        return _apply(pixels, part, size, self.size_after(size), box, self.kernel)


def _axes(size: Size, target: Size, kernel: Filter) -> tuple[Axis, Axis]:
    return Axis(size[0], target[0], kernel), Axis(size[1], target[1], kernel)


def _needed(box: Box, size: Size, target: Size, kernel: Filter) -> Box:
    vertical, horizontal = _axes(size, target, kernel)
    top, bottom = vertical.source(box.top, box.top + box.height)
    left, right = horizontal.source(box.left, box.left + box.width)
    return Box(top, left, bottom - top, right - left)


def _apply(pixels: Pixels, part: Box, size: Size, target: Size, box: Box, kernel: Filter) -> Pixels:
    if size == target:
        return cut(pixels, part, box)
    if part == whole(size) and box == whole(target):
        return _resize_whole(pixels, target, kernel)
    needed = _needed(box, size, target, kernel)
    vertical, horizontal = _axes(size, target, kernel)
    planes = cut(pixels, part, needed).transpose(2, 0, 1).astype(np.float64)  # (3, rows, columns)
    rows = horizontal.resize(planes, needed.left, box.left, box.left + box.width)  # Pillow's order: rows first
    turned = np.ascontiguousarray(rows.transpose(0, 2, 1))  # (3, columns, rows)
    columns = vertical.resize(turned, needed.top, box.top, box.top + box.height)
    return np.ascontiguousarray(columns.transpose(2, 1, 0).astype(np.uint8))


def _resize_whole(pixels: Pixels, target: Size, kernel: Filter) -> Pixels:
    """By Pillow, a pass at a time: from version 13 on it would turn their order round for tall pictures."""
    resampling = _RESAMPLING[kernel]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    rows = image.resize((target[1], image.height), resampling)
    return np.asarray(rows.resize((target[1], target[0]), resampling))
