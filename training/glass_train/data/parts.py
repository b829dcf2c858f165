"""The parts of a data set: train, val (chooses the epoch), calibration (chooses the decision), test (read once).

Images of one group, of one pair, or with the same pixels never lie in two parts. Splits that the data gives are kept;
what they lack is taken from `train`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glass_rt.errors import LabelsInvalid
from glass_train.data.scan import Scanned, Unreadable

PARTS = ("train", "val", "calibration", "test")
SHARES = {"val": 0.1, "calibration": 0.1, "test": 0.15}
FEWEST_CALIBRATION = 100  # images of each class; fewer promise nothing worth having
FEWEST_SOURCES = 5  # of a class, from which on its sources are kept whole
_NAMED = 3


@dataclass(frozen=True)
class Dataset:
    """The images by part, in the order of their names; `notes` say what was decided and what was left out.

    `audit`: what the shortcut audit found, as JSON values; None before it.
    """

    parts: Mapping[str, tuple[Scanned, ...]]
    unreadable: tuple[Unreadable, ...]
    notes: tuple[str, ...]
    audit: dict[str, Any] | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 over part, label, group, pair and file of every image: the same for the same data and split."""
        return _digest((part, image) for part in PARTS for image in self.parts[part])

    def part_sha256(self, part: str) -> str:
        """The same over one part."""
        return _digest((part, image) for image in self.parts[part])


def make_parts(
    images: Sequence[Scanned], unreadable: Sequence[Unreadable], seed: int, keep_aside: Sequence[str] = ()
) -> Dataset:
    """Divides images into the four parts.

    `keep_aside`: sources whose images are used for the test alone. Those with a group or pair in another part are not
    used at all. Raises LabelsInvalid: one class, too few groups, the same pixels in two parts or with both labels, a
    group in two parts, a source to keep aside that no image has.
    """
    _refuse_two_labels(images)
    _refuse_strange_sources(images, keep_aside)
    parts: dict[str, list[Scanned]] = {part: [] for part in PARTS}
    open_units, for_the_test = [], list[Scanned]()
    for unit in _units([one for one in images if not _outside_the_test(one, keep_aside)]):
        given = {scanned.image.split for scanned in unit if scanned.image.split}
        if len(given) > 1:
            raise LabelsInvalid(_across(unit))
        if given:
            part = given.pop()
            parts[part] += unit if part == "test" else _without(unit, keep_aside)
        elif _without(unit, keep_aside):
            open_units.append(unit)
        else:
            for_the_test += unit
    given_parts = {part for part in PARTS if parts[part]}
    notes = _fill(parts, open_units, given_parts, seed, keep_aside)
    parts["test"] += for_the_test
    _check_classes(parts, keep_aside)
    if keep_aside:
        left_out = len(images) - sum(map(len, parts.values()))
        notes.append(
            f"kept aside for the test: {', '.join(keep_aside)} ({left_out} images of other parts are not used)"
        )
    if not parts["test"]:
        notes.append("no test split: nothing is known of unseen images")
    if unreadable:
        names = ", ".join(one.name for one in unreadable[:_NAMED])
        notes.append(f"{len(unreadable)} images cannot be read and are left out (first: {names})")
    return Dataset(
        {part: tuple(sorted(found, key=lambda scanned: scanned.image.name)) for part, found in parts.items()},
        tuple(unreadable),
        tuple(notes),
    )


def _refuse_two_labels(images: Sequence[Scanned]) -> None:
    seen: dict[str, Scanned] = {}
    for scanned in images:
        before = seen.setdefault(scanned.pixels_sha256, scanned)
        if before.image.fake != scanned.image.fake:
            raise LabelsInvalid(f"{before.image.name} and {scanned.image.name} have the same pixels and both labels")
    classes = {scanned.image.fake for scanned in images}
    if len(classes) < 2:
        there = "fake" if True in classes else "real" if False in classes else "readable"
        raise LabelsInvalid(f"training needs images of both classes; only {there} images are there"
                            if classes else "no image of the data can be read")  # fmt: skip


def _refuse_strange_sources(images: Sequence[Scanned], sources: Sequence[str]) -> None:
    known = {scanned.image.source for scanned in images}
    if strange := [source for source in sources if source not in known]:
        there = ", ".join(sorted(source for source in known if source)) or "none"
        raise LabelsInvalid(f"keep-aside: no image has the source {strange[0]!r}; there are: {there}")


def _outside_the_test(scanned: Scanned, sources: Sequence[str]) -> bool:
    """Whether the data gives an image of these sources to another part than the test."""
    return scanned.image.source in sources and scanned.image.split not in ("test", None)


def _without(unit: Sequence[Scanned], sources: Sequence[str]) -> list[Scanned]:
    return [scanned for scanned in unit if scanned.image.source not in sources]


def _units(images: Sequence[Scanned]) -> list[list[Scanned]]:
    """Images that must stay together, by group, pair and pixels, as connected sets in the order of their names."""
    leader = list(range(len(images)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = index = leader[leader[index]]
        return index

    whole_sources = _whole_sources(images)
    first: dict[tuple[str, str], int] = {}
    for index, scanned in enumerate(images):
        image = scanned.image
        keys = [("pixels", scanned.pixels_sha256), ("group", image.group), ("pair", image.pair)]
        if whole_sources and image.split is None:
            keys.append(("source", f"{image.fake} {image.source}" if image.source else None))
        for kind, value in keys:
            if value is not None:
                other = first.setdefault((kind, value), index)
                leader[find(index)] = find(other)
    units: dict[int, list[Scanned]] = defaultdict(list)
    for index, scanned in enumerate(images):
        units[find(index)].append(scanned)
    return list(units.values())


def _whole_sources(images: Sequence[Scanned]) -> bool:
    """Whether sources can be kept whole: no group says better, and each class has enough of them."""
    if any(scanned.image.group or scanned.image.pair for scanned in images):
        return False
    sources: dict[bool, set[str]] = {True: set(), False: set()}
    for scanned in images:
        if scanned.image.source:
            sources[scanned.image.fake].add(scanned.image.source)
    return min(map(len, sources.values())) >= FEWEST_SOURCES


def _across(unit: Sequence[Scanned]) -> str:
    by_split = {scanned.image.split: scanned for scanned in unit if scanned.image.split}
    (one, first), (two, second) = sorted(by_split.items(), key=str)[:2]
    why = "have the same pixels" if first.pixels_sha256 == second.pixels_sha256 else "belong to one group or pair"
    return f"{first.image.name} ({one}) and {second.image.name} ({two}) {why}; a split may not tear them apart"


def _fill(
    parts: dict[str, list[Scanned]],
    open_units: list[list[Scanned]],
    given: set[str],
    seed: int,
    keep_aside: Sequence[str],
) -> list[str]:
    """Divides what has no split, and takes from `train` what the given splits lack; returns notes."""
    notes = []
    if open_units:
        wanted = [part for part in ("val", "test") if part not in given]
        rest = open_units
        if keep_aside:  # the test has its share first: of what it leaves, these sources go
            rest = _take(parts, rest, [part for part in wanted if part == "test"], seed)
            rest = [kept for unit in rest if (kept := _without(unit, keep_aside))]
            wanted = [part for part in wanted if part != "test"]
        rest = _take(parts, rest, wanted, seed)
        parts["train"] += (scanned for unit in rest for scanned in unit)
        notes.append(f"divided by {_basis(open_units)}, with the seed {seed}")
    lacking = [part for part in ("val", "calibration") if not parts[part]]
    for part in lacking:
        units = _units(parts["train"])
        counts = Counter(scanned.image.fake for scanned in parts["train"])
        smaller = min(counts.values(), default=0)
        if part == "calibration" and smaller * SHARES[part] < FEWEST_CALIBRATION:
            notes.append(
                f"no part for calibration: {100 * SHARES[part]:.0f} % of the {smaller} training images of the smaller "
                f"class are fewer than {FEWEST_CALIBRATION}"
            )
            continue
        rest = _take(parts, units, [part], seed)
        parts["train"] = [scanned for unit in rest for scanned in unit]
        notes.append(f"{part}: {len(parts[part])} images taken from train")
    return notes


def _basis(units: Sequence[Sequence[Scanned]]) -> str:
    images = [scanned.image for unit in units for scanned in unit]
    if any(image.group or image.pair for image in images):
        return "group"
    return (
        "source" if any(len({one.pixels_sha256 for one in unit}) > 1 for unit in units) else "image (no groups known)"
    )


def _take(
    parts: dict[str, list[Scanned]], units: Sequence[list[Scanned]], wanted: Sequence[str], seed: int
) -> list[list[Scanned]]:
    """Moves units into the wanted parts until each has its share of both classes; returns the rest."""
    order = sorted(units, key=lambda unit: _rank(seed, unit))
    total = Counter(scanned.image.fake for unit in units for scanned in unit)
    left = []
    for unit in order:
        has = Counter(scanned.image.fake for scanned in unit)
        for part in wanted:
            there = Counter(scanned.image.fake for scanned in parts[part])
            if all(there[fake] < max(1, SHARES[part] * total[fake]) for fake in has):
                parts[part] += unit
                break
        else:
            left.append(unit)
    return left


def _rank(seed: int, unit: Sequence[Scanned]) -> bytes:
    return hashlib.sha256(f"{seed} {min(one.pixels_sha256 for one in unit)}".encode()).digest()


def _check_classes(parts: Mapping[str, Sequence[Scanned]], keep_aside: Sequence[str]) -> None:
    for part in ("train", "val"):
        classes = {scanned.image.fake for scanned in parts[part]}
        if len(classes) < 2:
            missing = "real" if True in classes else "fake"
            why = (
                f"without those of {', '.join(keep_aside)} (--keep-aside), there are too few left"
                if keep_aside
                else "too few groups to divide, or a split that lacks them; add images, or give a `split` column"
            )
            raise LabelsInvalid(f"the part {part} has no {missing} images (of {len(parts[part])}): {why}")


def _digest(rows: Iterable[tuple[str, Scanned]]) -> str:
    return hashlib.sha256("\n".join(_lines(rows)).encode()).hexdigest()


def _lines(rows: Iterable[tuple[str, Scanned]]) -> Iterator[str]:
    for part, scanned in rows:
        image = scanned.image
        yield json.dumps([part, image.name, image.fake, image.group, image.pair, image.source, scanned.sha256])
