"""Which windows of an image are looked at: GLASS's stratified sampling, or every tile.

The random numbers are those of `torch.Generator().manual_seed(seed)` on the CPU, reproduced without PyTorch, so that
one seed and one image size give one set of boxes on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from glass_rt.errors import UsageError

MAX_SEED = 2**64 - 1
MAX_GRID = 8  # the authors' limit on the grid's side
Mode = Literal["stratified", "tiles"]


@dataclass(frozen=True)
class Box:
    """A window in stored pixels. Height and width are the part inside the image; the rest of the crop is padding."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Sampling:
    """The boxes of one image and how they were chosen.

    `grid` is the side of the grid of cells; 0 says that the boxes are not stratified (the image is too small for
    that many cells, so they were drawn anywhere and may overlap). `seed` is None for tiles.
    """

    boxes: tuple[Box, ...]
    mode: Mode
    grid: int
    seed: int | None

    @property
    def stratified(self) -> bool:
        """Whether every box lies in a cell of its own."""
        return self.mode == "stratified" and self.grid > 0


def stratified(height: int, width: int, num_crops: int, seed: int, crop_size: int) -> Sampling:
    """Boxes of `num_crops` windows of `crop_size` pixels, drawn as the authors' code draws them.

    Source: the authors' stratified sampling, arXiv 2601.00141. Only the low 32 bits of `seed` (0..2^64-1) count, as
    in PyTorch's generator. An image with too few cells (grid 0) gets independent windows over the whole of it.
    """
    if num_crops < 1:
        raise UsageError(f"crops: got {num_crops}; at least one is needed")
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed: got {seed}; expected 0..2^64-1")
    grid = min(min(height, width) // crop_size, MAX_GRID)
    if grid * grid < num_crops:
        grid = 0
    words = _torch_words(seed, (grid * grid - 1 if grid else 0) + 2 * num_crops)
    last_top, last_left = max(0, height - crop_size), max(0, width - crop_size)
    if grid == 0:
        corners = [(_below(words, last_top + 1), _below(words, last_left + 1)) for _ in range(num_crops)]
    else:
        cell_height, cell_width = height // grid, width // grid
        corners = [
            (
                min(cell // grid * cell_height + _below(words, max(0, cell_height - crop_size) + 1), last_top),
                min(cell % grid * cell_width + _below(words, max(0, cell_width - crop_size) + 1), last_left),
            )
            for cell in _permutation(grid * grid, words)[:num_crops]
        ]
    boxes = tuple(_box(top, left, height, width, crop_size) for top, left in corners)
    return Sampling(boxes, "stratified", grid, seed)


def draws_of(height: int, width: int, num_crops: int, seed: int, crop_size: int, draws: int) -> Sampling:
    """The boxes of `draws` independent samplings with seeds seed, seed + 1, ... (past 2^64-1: from 0 on), in a row."""
    samplings = [stratified(height, width, num_crops, (seed + i) % (MAX_SEED + 1), crop_size) for i in range(draws)]
    boxes = tuple(box for sampling in samplings for box in sampling.boxes)
    return Sampling(boxes, "stratified", samplings[0].grid, seed)


def tiles(height: int, width: int, crop_size: int) -> Sampling:
    """Every window: a grid of tiles that covers each pixel, the last row and column moved back inside the image."""
    boxes = tuple(
        _box(top, left, height, width, crop_size)
        for top in _tile_starts(height, crop_size)
        for left in _tile_starts(width, crop_size)
    )
    return Sampling(boxes, "tiles", 0, None)


def num_tiles(height: int, width: int, crop_size: int) -> int:
    """How many windows `tiles` gives."""
    return len(_tile_starts(height, crop_size)) * len(_tile_starts(width, crop_size))


def default_seed(sha256: str) -> int:
    """The seed of a file that none was given for: the first four bytes of its SHA-256, so that it has one anywhere."""
    return int(sha256[:8], 16)


def _box(top: int, left: int, height: int, width: int, crop_size: int) -> Box:
    return Box(top, left, min(crop_size, height - top), min(crop_size, width - left))


def _tile_starts(length: int, crop_size: int) -> list[int]:
    starts = list(range(0, max(1, length - crop_size + 1), crop_size))
    if starts[-1] + crop_size < length:
        starts.append(length - crop_size)
    return starts


def _torch_words(seed: int, count: int) -> Iterator[int]:
    """The first `count` 32-bit words of PyTorch's CPU generator: MT19937, seeded the legacy way (mt19937.cpp)."""
    generator = np.random.RandomState(seed & 0xFFFFFFFF)
    return iter(generator.randint(0, 2**32, size=count, dtype=np.uint32).tolist())


def _below(words: Iterator[int], bound: int) -> int:
    return next(words) % bound  # torch.randint for ranges under 2^32


def _permutation(size: int, words: Iterator[int]) -> list[int]:
    """`torch.randperm`: Fisher-Yates from the front."""
    order = list(range(size))
    for i in range(size - 1):
        j = i + _below(words, size - i)
        order[i], order[j] = order[j], order[i]
    return order
