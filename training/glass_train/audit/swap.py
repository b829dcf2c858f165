"""The question again, after training: what becomes of a model's figures when containers change sides."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from glass_train.audit.align import coding_of
from glass_train.audit.container import Container
from glass_train.delivery.jpeg import Jpeg
from glass_train.delivery.step import Step

QUALITY_96: tuple[Step, ...] = (Jpeg("4:2:0", 96),)


def swapped(
    containers: Sequence[Container], fake: Sequence[bool], keys: Sequence[str], seed: int
) -> list[tuple[Step, ...]]:
    """What codes each image as one of the other class was coded, drawn at random.

    An image drawn to be lossless stays as it is: a coding cannot be taken out of its pixels. `keys` name the images.
    """
    others = {label: [c for c, is_fake in zip(containers, fake, strict=True) if is_fake != label] for label in (0, 1)}
    drawn = [
        others[is_fake][Random(f"{seed}/{key}/swap").randrange(len(others[is_fake]))]
        for is_fake, key in zip(fake, keys, strict=True)
    ]
    return [() if (coding := coding_of(container)) is None else (coding,) for container in drawn]
