"""What counts as one image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from glass_calibrate.judging import Scored
from glass_calibrate.samples import choose_samples, column_of

from glass_rt.decision.tiers import InputFacts
from glass_rt.errors import LabelsInvalid, UsageError
from glass_rt.labelled.labels import LabelledImage


def image(name: str, fake: bool = False, **more: object) -> LabelledImage:
    return LabelledImage(f"/nowhere/{name}", name, fake, **more)  # type: ignore[arg-type]


def scored(*images: LabelledImage, width: int | None = None) -> dict[str, Scored]:
    """Each image with content of its own; sizes differ unless `width` is given."""
    return {
        one.path: Scored(f"sha of {one.name}", 0.5, InputFacts(width or 100 + place, 50, "png"))
        for place, one in enumerate(images)
    }


def test_without_groups_every_image_counts() -> None:
    images = [image("a.png"), image("b.png", fake=True)]
    found = choose_samples(images, scored(*images), None, 1)
    assert [one.name for one in found.counted] == ["a.png", "b.png"]
    assert [one.source for one in found.counted] == ["a.png", "b.png"]


def test_images_without_a_score_are_none() -> None:
    images = [image("a.png"), image("b.png")]
    assert [one.name for one in choose_samples(images, scored(images[1]), None, 1).unique] == ["b.png"]


def test_one_image_of_each_source_and_class_counts_whatever_the_scores_and_the_order() -> None:
    images = [image(f"{n}.png", n % 2 == 0, group="burst" if n < 8 else "") for n in range(12)]
    found = choose_samples(images, scored(*images), "group", seed=3)
    assert len(found.unique) == 12
    assert len(found.counted) == 2 + 4  # a real and a fake of the burst, and those of no group
    turned = choose_samples(images[::-1], scored(*images), "group", seed=3)
    assert {one.name for one in turned.counted} == {one.name for one in found.counted}
    chosen = {choose_samples(images, scored(*images), "group", seed).counted[0].name for seed in range(20)}
    assert len(chosen) > 1


def test_copies_of_a_file_are_dropped() -> None:
    images = [image("a.png"), image("b.png"), image("c.png")]
    known = scored(*images)
    known[images[2].path] = known[images[0].path]
    found = choose_samples(images, known, None, 1)
    assert dict(found.dropped) == {"c.png": "a.png"}
    assert [one.name for one in found.unique] == ["a.png", "b.png"]


@pytest.mark.parametrize("other", [".bmp", ".webp"])
def test_the_same_pixels_in_another_file_are_a_copy(other: str, tmp_path: Path) -> None:
    pixels = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
    images = []
    for name, content in (("a.png", pixels), (f"b{other}", pixels), ("c.png", 255 - pixels)):
        assert cv2.imwrite(str(tmp_path / name), content, lossless if name.endswith(".webp") else [])
        images.append(LabelledImage(str(tmp_path / name), name, False))
    found = choose_samples(images, scored(*images, width=30), None, 1)
    assert dict(found.dropped) == {f"b{other}": "a.png"}


def test_content_that_is_labelled_both_ways_is_refused() -> None:
    images = [image("fake/a.png", fake=True), image("real/b.png")]
    known = scored(*images)
    known[images[1].path] = known[images[0].path]
    with pytest.raises(LabelsInvalid, match=r"labelled both ways: fake/a.png and real/b.png"):
        choose_samples(images, known, None, 1)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("folder", "real/2024"),
        ("source", "phone"),
        ("Camera", "x100"),
        ("group", "g"),
        ("pair", None),
        ("nothing", None),
    ],
)
def test_columns(column: str, expected: str | None) -> None:
    one = image("real/2024/a.png", source="phone", group="g", columns={"camera": "x100", "pair": ""})
    assert column_of(one, column) == expected


def test_a_column_that_no_image_has_is_refused_with_those_that_are_there() -> None:
    images = [image("a.png", columns={"path": "a.png", "label": "real", "camera": "x"}, source="phone")]
    with pytest.raises(UsageError, match=r"no image has a 'lens': expected folder or a column .*: camera, source"):
        choose_samples(images, scored(*images), "lens", 1)
