"""What counts as one image: duplicates are dropped, and of one source only one image counts."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from glass_calibrate.judging import Scored
from glass_rt.decision.tiers import InputFacts
from glass_rt.errors import GlassError, LabelsInvalid, UsageError
from glass_rt.image.encoded import DEFAULT_MAX_PIXELS, read_image
from glass_rt.inference.decoding_room import decoding_budget
from glass_rt.inference.pipeline import MAX_WORKERS
from glass_rt.labelled.labels import LabelledImage
from glass_rt.machine.environment import usable_cores
from glass_rt.machine.limits.byte_budget import ByteBudget

BY_FOLDER = "folder"
_OF_IMAGE = ("group", "pair", "source", "split")  # columns that go by several names, see LabelledImage


@dataclass(frozen=True)
class Sample:
    """One labelled image with its score. `source`: of its images only one counts; itself where none is known.

    `sourced`: one is known.
    """

    name: str
    fake: bool
    score: float
    facts: InputFacts
    source: str
    sourced: bool
    image: LabelledImage


@dataclass(frozen=True)
class Samples:
    """`unique`: no two alike. `counted`: of these, one of each source and class. `dropped`: duplicates, and of what."""

    unique: tuple[Sample, ...]
    counted: tuple[Sample, ...]
    dropped: Mapping[str, str]


def choose_samples(
    images: Sequence[LabelledImage], scored: Mapping[str, Scored], group: str | None, seed: int
) -> Samples:
    """The samples among the images that have a score; scores play no part in it.

    `group`: the column of the source, or `folder` (None: every image is a source). Which image of a source counts
    follows from `seed` and the names. Raises LabelsInvalid for content that is labelled both ways, and UsageError for a
    column that no image has.
    """
    if group is not None:
        check_column(images, group)
    found = [image for image in images if image.path in scored]
    dropped = _duplicates(found, scored)
    unique = tuple(_sample(image, scored[image.path], group) for image in found if image.name not in dropped)
    return Samples(unique, unique if group is None else _one_of_each(unique, seed), dropped)


def column_of(image: LabelledImage, column: str) -> str | None:
    """What is known of an image under a column's name; of `folder`, the folder that it lies in."""
    if column == BY_FOLDER:
        return str(PurePosixPath(image.name).parent)
    named: str | None = getattr(image, column) if column in _OF_IMAGE else None
    return named or image.columns.get(column.lower()) or None


def check_column(images: Sequence[LabelledImage], column: str) -> None:
    """Raises UsageError where no image has anything under that name."""
    if any(column_of(image, column) for image in images):
        return
    there = {name for image in images for name, value in image.columns.items() if value} - {"path", "label"}
    there |= {name for name in _OF_IMAGE if any(getattr(image, name) for image in images)}
    raise UsageError(
        f"no image has a {column!r:.60}: expected {BY_FOLDER} or a column of the table of labels, of which there are: "
        f"{', '.join(sorted(there)) or 'none'}"
    )


def _sample(image: LabelledImage, scored: Scored, group: str | None) -> Sample:
    source = column_of(image, group) if group is not None else None
    return Sample(image.name, image.fake, scored.score, scored.facts, source or image.name, bool(source), image)


def _duplicates(images: Sequence[LabelledImage], scored: Mapping[str, Scored]) -> dict[str, str]:
    """Names of images that are the same as an earlier one: the same file, or the same pixels in another file."""
    same_files = _same(images, {image.path: scored[image.path].sha256 for image in images})
    rest = [image for image in images if image.name not in same_files]
    return same_files | _same(rest, _pixel_hashes(rest, scored))


def _same(images: Iterable[LabelledImage], keys: Mapping[str, str]) -> dict[str, str]:
    """Images, by name, with the key of an earlier one, whose name is given. Raises LabelsInvalid for two labels."""
    first: dict[str, LabelledImage] = {}
    found = {}
    for image in images:
        if (key := keys.get(image.path)) is None or (before := first.setdefault(key, image)) is image:
            continue
        if before.fake != image.fake:
            raise LabelsInvalid(
                f"the same image is labelled both ways: {before.name} and {image.name}; take out the one that is wrong"
            )
        found[image.name] = before.name
    return found


def _pixel_hashes(images: Sequence[LabelledImage], scored: Mapping[str, Scored]) -> dict[str, str]:
    """Hashes of the pixels of those images that have another's width and height, by path."""
    sizes = Counter(_size(scored[image.path]) for image in images)
    paths = [image.path for image in images if sizes[_size(scored[image.path])] > 1]
    budget = ByteBudget()
    with ThreadPoolExecutor(min(usable_cores(), MAX_WORKERS)) as pool:
        hashes = pool.map(lambda path: _pixel_hash(path, budget), paths)
        return {path: found for path, found in zip(paths, hashes, strict=True) if found}


def _size(scored: Scored) -> tuple[int, int]:
    return scored.facts.width, scored.facts.height


def _pixel_hash(path: str, budget: ByteBudget) -> str | None:
    try:
        image = read_image(path, sys.maxsize)
        with budget.hold(image.peak_bytes, decoding_budget(DEFAULT_MAX_PIXELS)):
            pixels = image.decode().pixels
            return f"{pixels.shape} {hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()}"
    except (GlassError, MemoryError, ValueError):  # it was judged, and has gone since
        return None


def _one_of_each(samples: Sequence[Sample], seed: int) -> tuple[Sample, ...]:
    """One sample of each source and class, by a draw that follows from the seed and the names."""
    chosen: dict[tuple[str, bool, bool], Sample] = {}
    for sample in sorted(samples, key=lambda one: hashlib.sha256(f"{seed}\0{one.name}".encode()).digest()):
        chosen.setdefault((sample.source, sample.sourced, sample.fake), sample)
    return tuple(sorted(chosen.values(), key=lambda one: one.name))
