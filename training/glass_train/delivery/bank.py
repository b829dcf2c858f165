"""A few seeded deliveries of every image, whose global views are computed once, while crops are drawn anew each epoch.

The global view needs every pixel of the delivered picture, a crop only its window. So an image has `deliveries`
deliveries in all, taken in turn from epoch to epoch; the first time costs the whole picture, later times the crops.
Everything follows from the seed, the image's key and the epoch: there is no state to save or to restore.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias

import numpy as np

from glass_rt.errors import UsageError
from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box, stratified
from glass_rt.machine.write_whole import write_whole
from glass_train.delivery.delivered import DeliveredImage
from glass_train.delivery.draw import draw_delivery
from glass_train.delivery.kept import KeptPictures, KeptViews
from glass_train.delivery.policy import Policy
from glass_train.delivery.step import Step

Architecture: TypeAlias = Literal["glass", "resize"]

_VIEWS, _PICTURES, _SETTINGS = "global_views.bin", "pictures", "settings.json"


@dataclass(frozen=True)
class BankSettings:
    """What the deliveries follow from.

    `deliveries`: of one image. `architecture`: which global view is kept; `resize` takes no crops. `view_size`: pixels
    on a side of the global view and of a crop. `picture_bytes`: delivered pictures up to this size (thumbnails, above
    all) are kept whole, and their image is not decoded again.
    """

    policy: Policy = field(default_factory=Policy)
    seed: int = 0
    deliveries: int = 8
    architecture: Architecture = "glass"
    view_size: int = 224
    picture_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if self.deliveries < 1:
            raise UsageError(f"deliveries: got {self.deliveries}; at least one is needed")


@dataclass(frozen=True)
class BankImage:
    """One image of the training set.

    `key` seeds its deliveries and its boxes: give the twins of a pair one key, and they are delivered alike. `load`
    decodes it, uint8 (H, W, 3), RGB; called only where the pixels are needed. `before`: steps that come before every
    delivery, such as an alignment's.
    """

    key: str
    load: Callable[[], Pixels]
    before: tuple[Step, ...] = ()


@dataclass(frozen=True, eq=False)
class TrainingViews:
    """What one image gives one epoch.

    `global_view`: uint8 (size, size, 3), 0..255, rounded to whole levels. `crops`: uint8 (K, size, size, 3), padded
    with zeros as at inference. `boxes`: where in the delivered picture they lie. `delivery`: its number in the bank.
    """

    global_view: Pixels
    crops: Pixels
    boxes: tuple[Box, ...]
    delivery: int


class Bank:
    """The deliveries of a list of images, kept in `folder`.

    A folder that was made for other images or settings is refused. The object can be sent to other processes, and
    several may use one folder; one object belongs to one thread.
    """

    def __init__(self, folder: Path, images: Sequence[BankImage], settings: BankSettings) -> None:
        self._images = tuple(images)
        self._settings = settings
        folder.mkdir(parents=True, exist_ok=True)
        _check_settings(folder / _SETTINGS, self._images, settings)
        self._views = KeptViews(folder / _VIEWS, settings.view_size)
        self._pictures = KeptPictures(folder / _PICTURES, settings.picture_bytes)
        (folder / _PICTURES).mkdir(exist_ok=True)

    def __len__(self) -> int:
        return len(self._images)

    def delivery(self, index: int, epoch: int) -> int:
        """Which of its deliveries an image has in an epoch: each in turn, from one of its own on."""
        start = Random(f"{self._settings.seed}/{self._images[index].key}/start").randrange(self._settings.deliveries)
        return (start + epoch) % self._settings.deliveries

    def steps(self, index: int, delivery: int) -> tuple[Step, ...]:
        """All that happens to an image in one of its deliveries."""
        image, settings = self._images[index], self._settings
        return (*image.before, *draw_delivery(settings.policy, f"{settings.seed}/{image.key}/{delivery}"))

    def views(self, index: int, epoch: int, crops: int) -> TrainingViews:
        """The views of an image in an epoch, with `crops` windows drawn for that epoch.

        Raises what the image's `load` raises, and GlassError where the disk is full.
        """
        delivery = self.delivery(index, epoch)
        slot = index * self._settings.deliveries + delivery
        view = self._views.read(slot)
        takes_crops = self._settings.architecture == "glass" and crops > 0
        if view is not None and not takes_crops:
            return TrainingViews(view, self._no_crops(), (), delivery)
        picture = self._picture(index, delivery, slot)
        if view is None:
            view = self._computed_view(picture, slot)
        if not takes_crops:
            return TrainingViews(view, self._no_crops(), (), delivery)
        boxes = self._boxes(index, epoch, picture, crops)
        return TrainingViews(view, picture.crops(boxes, self._settings.view_size), boxes, delivery)

    def close(self) -> None:
        """Closes the bank's files; calling it twice is harmless."""
        self._views.close()

    def _picture(self, index: int, delivery: int, slot: int) -> DeliveredImage:
        kept = self._pictures.read(slot)
        if kept is not None:
            return DeliveredImage(kept)
        return DeliveredImage(self._images[index].load(), self.steps(index, delivery))

    def _computed_view(self, picture: DeliveredImage, slot: int) -> Pixels:
        size = self._settings.view_size
        exact = picture.global_view if self._settings.architecture == "glass" else picture.baseline_view
        view = np.rint(exact(size)).astype(np.uint8)
        if self._settings.architecture == "glass" and self._pictures.takes(*picture.size):
            self._pictures.write(slot, picture.pixels())
        self._views.write(slot, view)
        return view

    def _boxes(self, index: int, epoch: int, picture: DeliveredImage, crops: int) -> tuple[Box, ...]:
        seed = Random(f"{self._settings.seed}/{self._images[index].key}/boxes/{epoch}").getrandbits(32)
        return stratified(*picture.size, crops, seed, self._settings.view_size).boxes

    def _no_crops(self) -> Pixels:
        return np.empty((0, self._settings.view_size, self._settings.view_size, 3), np.uint8)


def _check_settings(path: Path, images: Sequence[BankImage], settings: BankSettings) -> None:
    """Writes down what a new folder is for, or compares it with what an old one was for."""
    keys = hashlib.sha256(repr([(image.key, image.before) for image in images]).encode()).hexdigest()
    text = json.dumps({"images": keys, **asdict(settings)}, indent=1) + "\n"
    if not path.exists():
        write_whole(path, text.encode())
    elif path.read_text() != text:
        raise UsageError(f"{path.parent} was made for other images or settings; delete it, or name another folder")
