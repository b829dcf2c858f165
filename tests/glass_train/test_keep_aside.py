"""Sources that are kept aside for the test: nothing of them is trained on or validated with, however the data is split."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from glass_train.data.parts import make_parts
from glass_train.data.scan import Scanned

from glass_rt.errors import LabelsInvalid
from tests.glass_train.test_data import scanned

SOURCES = ("s0", "s1", "s2")


def alone(count: int = 60, split: str | None = None) -> list[Scanned]:
    """Fakes of three sources and photographs, which have nothing to do with each other."""
    return [
        scanned(i, fake, source=SOURCES[i % 3] if fake else "camera", split=split)
        for i in range(count)
        for fake in (True, False)
    ]


def twins(count: int = 40) -> list[Scanned]:
    """Photographs, each with a fake of every source."""
    images = [
        scanned(3 * i + k, True, source=name, pair=f"p{i}") for i in range(count) for k, name in enumerate(SOURCES)
    ]
    return images + [scanned(i, False, source="camera", pair=f"p{i}") for i in range(count)]


def beside_a_test() -> list[Scanned]:
    """The data gives a test, and no other part."""
    return [*alone(), *(scanned(900 + i, fake, split="test") for i in range(6) for fake in (True, False))]


def torn_by_a_split() -> list[Scanned]:
    """A fake without a split beside a photograph that is for training."""
    return [
        *alone(12, "train"), *(scanned(500 + i, fake, split="val") for i in range(3) for fake in (True, False)),
        scanned(800, True, source="s1", group="g"), scanned(801, False, source="camera", group="g", split="train"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("images", "aside", "in_the_test"),
    [
        (alone(), "s1", 20),  # all of them
        ([*alone(), *(scanned(700 + i, False, source="phone") for i in range(40))], "camera", 60),
        (twins(), "s1", 6),  # those whose photograph is for the test
        (beside_a_test(), "s1", 20),
        (torn_by_a_split(), "s1", 0),
    ],
)  # fmt: skip
def test_no_part_but_the_test_has_any_of_it(images: Sequence[Scanned], aside: str, in_the_test: int) -> None:
    dataset = make_parts(images, (), 1, (aside,))
    found = {part: sum(one.image.source == aside for one in rows) for part, rows in dataset.parts.items()}
    assert found == {"train": 0, "val": 0, "calibration": 0, "test": in_the_test}
    assert sum(map(len, dataset.parts.values())) == len(images) - _count(images, aside) + in_the_test
    assert f"({_count(images, aside) - in_the_test} images of other parts are not used)" in " ".join(dataset.notes)


def _count(images: Sequence[Scanned], source: str) -> int:
    return sum(one.image.source == source for one in images)


def test_the_test_has_other_images_of_both_classes_too() -> None:
    test = make_parts(alone(), (), 1, ("s1",)).parts["test"]
    assert {one.image.source for one in test} == {"s0", "s1", "s2", "camera"}


def test_without_it_nothing_changes_place() -> None:
    assert make_parts(twins(), (), 1, ()).sha256 == make_parts(twins(), (), 1).sha256


@pytest.mark.parametrize(
    ("images", "aside", "message"),
    [
        (alone(), ("s9",), "no image has the source 's9'; there are: camera, s0, s1, s2"),
        (alone(), SOURCES, r"the part train has no fake images.*without those of s0, s1, s2 \(--keep-aside\)"),
        (alone(), ("camera",), r"the part train has no real images.*without those of camera \(--keep-aside\)"),
        (
            [*alone(12, "train"), scanned(100, True, source="s1", split="val"), scanned(101, False, split="val")],
            ("s1",),
            r"the part val has no fake images.*without those of s1",
        ),
    ],
)  # fmt: skip
def test_a_source_that_leaves_too_little_is_refused(
    images: Sequence[Scanned], aside: tuple[str, ...], message: str
) -> None:
    with pytest.raises(LabelsInvalid, match=message):
        make_parts(images, (), 1, aside)
