"""Alignment: what is done to pictures so that their containers no longer tell the classes apart.

Every image is matched with one of the other class, drawn at random. Both of a match would be treated alike: each is cut
to the smaller of the two widths and heights, and coded like the one that was coded more strongly. So a size or a table
comes equally often in both classes, whatever they were before, and a lossless class is coded with tables of the other.
Metadata is no part of pixels and falls away by itself. What an earlier coding left in the pixels stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import Random

import cv2

from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box
from glass_train.audit.container import Container, container_of
from glass_train.audit.shortcut import Audit, audit
from glass_train.delivery.delivered import DeliveredImage
from glass_train.delivery.geometry import Crop
from glass_train.delivery.jpeg import Jpeg, JpegWithTables, Subsampling, Tables
from glass_train.delivery.step import Step

_GRID = 16  # pixels: a cut picture keeps the phase of the blocks that it was coded in
_CODED = ("bytes per pixel", "chroma subsampling", "format", "quantisation tables")
_QUALITIES = (75, 95)  # of pictures of two formats that are no JPEGs
MOST = 400  # images of a class whose aligned form is coded to be audited again


@dataclass(frozen=True)
class Need:
    """What an audit found to be different: sizes, coding, or both."""

    sizes: bool
    coding: bool


def need_of(found: Audit) -> Need:
    """What has to be aligned, by the facts that give the label away."""
    telling = {finding.fact for finding in found.telling}
    return Need("width and height" in telling, not telling.isdisjoint(_CODED))


@dataclass(frozen=True)
class Alignment:
    """What is done to one picture before any delivery; nothing where both are None."""

    crop: Crop | None = None
    coding: Jpeg | JpegWithTables | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """Cut, then coded."""
        return tuple(step for step in (self.crop, self.coding) if step is not None)


def align(
    containers: Sequence[Container], fake: Sequence[bool], keys: Sequence[str], need: Need, seed: int
) -> list[Alignment]:
    """The alignment of each image.

    `keys` name the images: the same seed and key draw the same match from the same images.
    """
    others = {label: [c for c, is_fake in zip(containers, fake, strict=True) if is_fake != label] for label in (0, 1)}
    return [
        _aligned(container, others[is_fake], Random(f"{seed}/{key}/align"), need)
        for container, is_fake, key in zip(containers, fake, keys, strict=True)
    ]


def audit_aligned(
    containers: Sequence[Container],
    alignments: Sequence[Alignment],
    decoded: Callable[[int], Pixels],
    fake: Sequence[bool],
    groups: Sequence[str],
    seed: int,
    workers: int = 1,
) -> Audit:
    """The audit of the files that aligned pictures would make, without metadata.

    `decoded`: the pixels of an image by its number; asked for at most `MOST` images of each class, by `workers` threads
    at once.
    """
    chosen = sorted(i for label in (False, True) for i in _drawn(fake, label, seed))
    with ThreadPoolExecutor(workers) as pool:
        aligned = list(pool.map(lambda i: _container(containers[i], alignments[i], decoded(i)), chosen))
    return audit(aligned, [fake[i] for i in chosen], [groups[i] for i in chosen], seed)


def _aligned(container: Container, others: Sequence[Container], draw: Random, need: Need) -> Alignment:
    match, corner = others[draw.randrange(len(others))], (draw.random(), draw.random())
    crop = _crop(container, match, corner) if need.sizes else None
    coding = _coding(container, match, draw.randint(*_QUALITIES)) if need.coding else None
    return Alignment(crop, coding)


def _crop(container: Container, match: Container, corner: tuple[float, float]) -> Crop | None:
    height, width = min(container.height, match.height), min(container.width, match.width)
    if (height, width) == (container.height, container.width):
        return None
    top, left = (
        int(place * ((longer - shorter) // _GRID + 1)) * _GRID
        for place, longer, shorter in zip(corner, (container.height, container.width), (height, width), strict=True)
    )
    return Crop(Box(top, left, height, width))


def _coding(container: Container, match: Container, quality: int) -> Jpeg | JpegWithTables | None:
    """None where the picture stays as it is coded."""
    if match.tables:
        return coding_of(match) if _strength(match) > _strength(container) else None
    return None if container.tables or container.format == match.format else Jpeg("4:2:0", quality)


def _strength(container: Container) -> tuple[int, Tables, str]:
    """An order of codings, the coarser the later; pictures that are no colour JPEGs come first."""
    tables = container.tables
    return sum(map(sum, tables)) if tables else 0, tables or ((), ()), container.subsampling or ""


def coding_of(container: Container) -> JpegWithTables | None:
    """The coding of a colour JPEG; None of anything else."""
    return JpegWithTables(_named(container.subsampling), container.tables) if container.tables else None


def _named(subsampling: str | None) -> Subsampling:
    """The subsampling of a file, or the most common one where ours is none of the encoder's."""
    return subsampling if subsampling in ("4:4:4", "4:2:2", "4:2:0") else "4:2:0"  # type: ignore[return-value]


def _drawn(fake: Sequence[bool], label: bool, seed: int) -> Iterable[int]:
    members = [i for i, is_fake in enumerate(fake) if is_fake == label]
    return Random(f"{seed}/{label}/audit").sample(members, MOST) if len(members) > MOST else members


def _container(container: Container, alignment: Alignment, decoded: Pixels) -> Container:
    """The file that an aligned picture would be, by one encoder for all: JPEG as it is coded, or else PNG."""
    coding = alignment.coding or coding_of(container)
    pixels = DeliveredImage(decoded, () if alignment.crop is None else (alignment.crop,)).pixels()
    file = container_of(encode_png(pixels) if coding is None else coding.encode(pixels))
    kept = container if alignment.coding is None else file  # what stays as it is keeps its name
    return replace(file, format=kept.format, subsampling=kept.subsampling, file_bytes=file.coded_bytes)


def encode_png(pixels: Pixels) -> bytes:
    """A PNG of `pixels`, uint8 (H, W, 3), RGB."""
    coded, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    assert coded, "OpenCV writes PNG"
    return data.tobytes()
