"""Every image is decoded once before training: what cannot be read is named, and the same pixels are found twice."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from glass_rt.errors import GlassError
from glass_rt.image.encoded import from_array, load
from glass_rt.inference.prepared_image import as_image_error
from glass_rt.labelled.labels import LabelledImage
from glass_rt.machine.file_names import text_from_name
from glass_train.delivery.step import Step


@dataclass(frozen=True)
class Scanned:
    """A labelled image that can be decoded: SHA-256 of its file and of its pixels, and its size in pixels.

    The names in `image` are text that can be written anywhere: see `as_text`. `before`: what is done to its pixels
    wherever they are used, by an alignment.
    """

    image: LabelledImage
    sha256: str
    pixels_sha256: str
    width: int
    height: int
    before: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Unreadable:
    """A labelled image that cannot be decoded, and why."""

    name: str
    reason: str


def scan(images: Sequence[LabelledImage], workers: int) -> tuple[tuple[Scanned, ...], tuple[Unreadable, ...]]:
    """Decodes every image in `workers` threads; both results are in the order of the images."""
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(_scan_one, map(as_text, images)))
    readable = tuple(one for one in found if isinstance(one, Scanned))
    return readable, tuple(one for one in found if isinstance(one, Unreadable))


def as_text(image: LabelledImage) -> LabelledImage:
    """The image with names as `text_from_name` writes them, so that tables, cards and seeds can be made of them.

    Its path is the file's own.
    """
    group, pair, source = (said and text_from_name(said) for said in (image.group, image.pair, image.source))
    return replace(image, name=text_from_name(image.name), group=group, pair=pair, source=source)


def _scan_one(image: LabelledImage) -> Scanned | Unreadable:
    try:
        with as_image_error():
            decoded = load(image.path)
    except GlassError as error:
        return Unreadable(image.name, str(error))
    pixels = from_array(decoded.pixels).info.sha256
    return Scanned(image, decoded.info.sha256, pixels, decoded.info.width, decoded.info.height)
