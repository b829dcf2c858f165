"""One image as the model sees it in training: its views, made by the runtime's own code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import ImageError
from glass_rt.image.decode import Image, Pixels
from glass_rt.image.encoded import load
from glass_rt.image.sampling import default_seed, stratified
from glass_rt.image.views import baseline_view, cut_crops, global_view
from glass_rt.inference.prepared_image import as_image_error
from glass_train.data.kept_images import KeptImages
from glass_train.data.order import FAKE, REAL, draw_seed
from glass_train.data.scan import Scanned
from glass_train.delivery.bank import Bank, BankImage, BankSettings
from glass_train.delivery.delivered import DeliveredImage

CROP_SIZE = 224
Alter: TypeAlias = Callable[[Pixels], Pixels]


@dataclass(frozen=True, eq=False)
class Example:
    """Views of one image: `global_view` float32 or uint8 (S, S, 3), 0..255 RGB, and `crops` uint8 (K, S, S, 3).

    For the resize-only model `global_view` is its view and K is 0. Where backbones are frozen and embeddings are kept,
    these stand in their places: float32 (D,) and (K, D).
    """

    global_view: NDArray[Any]
    crops: NDArray[Any]


class Examples(Protocol):
    """Labelled examples by number. `example` may be called by several threads at once."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 (N,), 0 fake or 1 real."""

    @property
    def pairs(self) -> Sequence[str | None]:
        """The pair of each image."""

    def name(self, index: int) -> str:
        """The image's name, for messages."""

    def example(self, index: int, turn: int | None) -> Example:
        """The views of an image in a turn; without one those that the runtime judges. Raises ImageError."""


@dataclass(frozen=True, eq=False)
class _Files:
    """Labelled images that were scanned; `kept` holds those that need not be decoded again."""

    images: Sequence[Scanned]
    kept: KeptImages | None = field(default=None, kw_only=True)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """int64 (N,), 0 fake or 1 real."""
        return np.array([FAKE if scanned.image.fake else REAL for scanned in self.images], np.int64)

    @cached_property
    def pairs(self) -> Sequence[str | None]:
        """The pair of each image."""
        return [scanned.image.pair for scanned in self.images]

    def name(self, index: int) -> str:
        """The image's name below the data folder."""
        return self.images[index].image.name

    def key(self, index: int) -> str:
        """What all chance follows from: the same for twins."""
        image = self.images[index].image
        return image.name if image.pair is None else f"pair {image.pair}"

    def decoded(self, index: int) -> Image:
        """The image, aligned where it is to be. Raises ImageError."""
        image, before = self.stored(index), self.images[index].before
        return Image(image.info, DeliveredImage(image.pixels, before).pixels()) if before else image

    def stored(self, index: int) -> Image:
        """The image as its file has it. Raises ImageError."""
        return self._loaded(index) if self.kept is None else self.kept.get(index, lambda: self._loaded(index))

    def _loaded(self, index: int) -> Image:
        scanned = self.images[index]
        with as_image_error():
            image = load(scanned.image.path)
        if image.info.sha256 != scanned.sha256:
            raise ImageError("the file has changed since the run began")
        return image


@dataclass(frozen=True, eq=False)
class PlainExamples(_Files):
    """Pictures as they are: global view and `crops` windows of stratified sampling; 0: the resize-only model's view.

    `alter`, where given, changes the whole picture first.
    """

    crops: int
    seed: int
    alter: Alter | None = None

    def example(self, index: int, turn: int | None) -> Example:
        """The views; the windows follow from seed, turn and key."""
        image = self.decoded(index)
        seed = default_seed(image.info.sha256) if turn is None else draw_seed(self.seed, turn, self.key(index))
        return plain_views(image.pixels if self.alter is None else self.alter(image.pixels), self.crops, seed)


def plain_views(pixels: Pixels, count: int, seed: int) -> Example:
    """The runtime's views of a picture, uint8 (H, W, 3)."""
    crops = np.empty((count, CROP_SIZE, CROP_SIZE, 3), np.uint8)
    if not count:
        return Example(baseline_view(pixels, CROP_SIZE), crops)
    height, width = pixels.shape[:2]
    cut_crops(pixels, stratified(height, width, count, seed, CROP_SIZE).boxes, crops)
    return Example(global_view(pixels, CROP_SIZE), crops)


@dataclass(frozen=True, eq=False)
class DeliveredExamples(_Files):
    """Pictures after one of several seeded deliveries each, kept as a bank in `folder`."""

    crops: int
    folder: Path
    settings: BankSettings

    def example(self, index: int, turn: int | None) -> Example:
        """The views of the delivery whose turn it is."""
        assert turn is not None, "validation has plain examples"
        views = self._bank().views(index, turn, self.crops)
        return Example(views.global_view, views.crops)

    @cached_property
    def _threads(self) -> threading.local:
        return threading.local()

    def _bank(self) -> Bank:
        """The bank of this thread: an object of it belongs to one."""
        bank = getattr(self._threads, "bank", None)
        if bank is None:
            images = [
                BankImage(self.key(index), self._loader(index), scanned.before)
                for index, scanned in enumerate(self.images)
            ]
            bank = self._threads.bank = Bank(self.folder, images, self.settings)
        assert isinstance(bank, Bank), "set above"
        return bank

    def _loader(self, index: int) -> Callable[[], Pixels]:
        return lambda: self.stored(index).pixels
