"""Sets of files in which a label hides, or does not: every class has its way of making a file of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from random import Random
from typing import Any

import cv2
import numpy as np
from glass_train.audit.container import Container, container_of
from PIL import Image, ImageCms

from glass_rt.image.decode import Pixels
from glass_rt.image.encoded import load

IMAGES = 40  # of each class

Size = tuple[int, int]  # width, height


def _exif() -> bytes:
    exif = Image.Exif()
    exif[271] = "maker"
    return exif.tobytes()


EXIF, ICC = _exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@dataclass(frozen=True)
class Recipe:
    """How the files of a class are made; the values of each file are drawn from these."""

    format: str = "JPEG"
    sizes: Sequence[Size] = ((112, 96), (96, 112))
    qualities: Sequence[int] = (80, 85, 90)
    subsamplings: Sequence[str] = ("4:2:0",)
    options: dict[str, Any] = field(default_factory=dict)

    def file(self, number: int, draw: Random) -> bytes:
        """One file."""
        width, height = draw.choice(self.sizes)
        options = dict(self.options)
        if self.format in ("JPEG", "WEBP"):
            options["quality"] = draw.choice(self.qualities)
        if self.format == "JPEG":
            options["subsampling"] = draw.choice(self.subsamplings)
        file = BytesIO()
        Image.fromarray(_picture(number)[:height, :width]).save(file, self.format, **options)
        return file.getvalue()


@cache
def _picture(number: int) -> Pixels:
    """Grain, as strong everywhere in a picture, and stronger in some pictures than in others."""
    draw = np.random.Generator(np.random.PCG64(number))
    coarse = cv2.resize(draw.integers(60, 190, (12, 14, 3), dtype=np.uint8), (192, 160)).astype(np.float64)
    grain = draw.normal(0, 2 + number % 8, (160, 192, 3))
    picture: Pixels = np.clip(coarse + grain, 0, 255).astype(np.uint8)
    return picture


@dataclass(frozen=True)
class Planted:
    """Files with their labels and groups: every photograph is there as real and as fake."""

    files: tuple[bytes, ...]
    fake: tuple[bool, ...]
    groups: tuple[str, ...]

    @property
    def containers(self) -> list[Container]:
        """Their facts."""
        return [container_of(data) for data in self.files]

    @property
    def names(self) -> list[str]:
        """A name for each."""
        return [f"{group} {is_fake}" for group, is_fake in zip(self.groups, self.fake, strict=True)]

    def decoded(self, index: int) -> Pixels:
        """The pixels of a file."""
        return load(self.files[index]).pixels


def planted(fake: Recipe, real: Recipe) -> Planted:
    """The two classes, each made by its recipe."""
    rows = [
        (recipe.file(number, Random(f"file {number} {is_fake}")), is_fake, f"photograph {number}")
        for is_fake, recipe in ((True, fake), (False, real))
        for number in range(IMAGES)
    ]
    files, labels, groups = zip(*rows, strict=True)
    return Planted(files, labels, groups)
