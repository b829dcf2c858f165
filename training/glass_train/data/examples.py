"""One image as the model sees it in training: its views, made by the runtime's own code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glass_rt.image.decode import Image, Pixels
from glass_rt.image.encoded import load
from glass_rt.image.sampling import default_seed, stratified
from glass_rt.image.views import baseline_view, cut_crops, global_view
from glass_rt.inference.prepared_image import as_image_error
from glass_train.data.order import FAKE, REAL
from glass_train.data.scan import Scanned

CROP_SIZE = 224


@dataclass(frozen=True, eq=False)
class Example:
    """Views of one image: `global_view` float32 (S, S, 3), 0..255 RGB, and `crops` uint8 (K, S, S, 3).

    For the resize-only model `global_view` is its view and K is 0. Where backbones are frozen and embeddings are kept,
    these stand in their places: float32 (D,) and (K, D).
    """

    global_view: NDArray[np.float32]
    crops: NDArray[Any]


class Examples(Protocol):
    """Labelled examples by number. `example` may be called by several threads at once."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 (N,), 0 fake or 1 real."""

    def name(self, index: int) -> str:
        """The image's name, for messages."""

    def example(self, index: int, seed: int | None) -> Example:
        """The views of an image; without a seed those that the runtime judges. Raises ImageError."""


Views: TypeAlias = Callable[[Image, int], Example]
Alter: TypeAlias = Callable[[Pixels], Pixels]


@dataclass(frozen=True, eq=False)
class FileExamples:
    """Examples from image files. `views` makes them from a decoded image and a seed."""

    images: Sequence[Scanned]
    views: Views

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """int64 (N,), 0 fake or 1 real."""
        return np.array([FAKE if scanned.image.fake else REAL for scanned in self.images], np.int64)

    @property
    def pairs(self) -> list[str | None]:
        """The pair of each image."""
        return [scanned.image.pair for scanned in self.images]

    def name(self, index: int) -> str:
        """The image's name below the data folder."""
        return self.images[index].image.name

    def example(self, index: int, seed: int | None) -> Example:
        """Decodes the image and makes its views. Raises ImageError."""
        with as_image_error():
            image = load(self.images[index].image.path)
        return self.views(image, default_seed(image.info.sha256) if seed is None else seed)


@dataclass(frozen=True)
class PlainViews:
    """The views that the runtime makes of an image; `alter`, where given, changes the whole picture first."""

    crops: int
    alter: Alter | None = None

    def __call__(self, image: Image, seed: int) -> Example:
        """The global view and K windows of stratified sampling with this seed; K = 0: the resize-only model's view."""
        pixels = image.pixels if self.alter is None else self.alter(image.pixels)
        crops = np.empty((self.crops, CROP_SIZE, CROP_SIZE, 3), np.uint8)
        if not self.crops:
            return Example(baseline_view(pixels, CROP_SIZE), crops)
        height, width = pixels.shape[:2]
        cut_crops(pixels, stratified(height, width, self.crops, seed, CROP_SIZE).boxes, crops)
        return Example(global_view(pixels, CROP_SIZE), crops)
