"""The parts of a labelled set: one of them alone, and images that a model may have been trained with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from glass_rt.errors import UsageError
from glass_rt.labelled.labels import LabelledImage
from glass_rt.labelled.words import SPLITS, split_word

_SEEN = ("train", "val")  # the one teaches the weights, the other chooses the epoch


def images_of_split(images: Sequence[LabelledImage], split: str | None) -> list[LabelledImage]:
    """The images of one part, in any word that folders and tables may have for it; all of them where it is None.

    Raises UsageError for a word that names no part, and for a part without images, with the parts that there are.
    """
    if split is None:
        return list(images)
    wanted = split_word(split)
    chosen = [image for image in images if image.split == wanted]
    if wanted is None:
        raise UsageError(f"--split: got {split!r:.40}; expected one of {', '.join(SPLITS)}; {_parts_of(images)}")
    if not chosen:
        raise UsageError(f"--split {wanted}: no image lies in it; {_parts_of(images)}")
    return chosen


def _parts_of(images: Sequence[LabelledImage]) -> str:
    counts = Counter(image.split for image in images)
    parts = [f"{name} ({counts[name]})" for name in SPLITS if counts[name]]
    if not parts:
        return f"none of {len(images)} images says its part, by a folder such as test/ or a column `split`"
    rest = f", and {counts[None]} images in none" if counts[None] else ""
    return f"there are {', '.join(parts)}{rest}"


def part_warnings(images: Sequence[LabelledImage]) -> Iterator[str]:
    """A warning where some of the images lie in parts that training reads, or none."""
    counts = Counter(image.split for image in images)
    seen = [f"{counts[part]} in `{part}`" for part in _SEEN if counts[part]]
    if seen:
        yield (
            f"of {len(images)} images, {' and '.join(seen)}: a model that was trained with them has better scores "
            "there than on others; leave them out by --split, or by naming the folder or a table of another part"
        )
