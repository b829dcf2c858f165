"""One part of a labelled set, and images that a model was trained with."""

from __future__ import annotations

from pathlib import Path

import pytest

from glass_rt.errors import UsageError
from glass_rt.labelled.labels import LabelledImage, labelled_images
from glass_rt.labelled.parts import images_of_split, part_warnings


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ((None, None), None),
        (("test", "calibration", None), None),
        (("train", "train", "test"), "of 3 images, 2 in `train`: "),
        (("val", "test"), "of 2 images, 1 in `val`: "),  # it chose the epoch
        (("val", "train", "test", None), "of 4 images, 1 in `train` and 1 in `val`: "),
    ],
)
def test_parts_that_training_reads_are_counted(splits: tuple[str | None, ...], expected: str | None) -> None:
    images = [LabelledImage(f"{n}.png", f"{n}.png", bool(n % 2), split=split) for n, split in enumerate(splits)]
    warnings = list(part_warnings(images))
    assert [warning[: len(expected or "")] for warning in warnings] == ([] if expected is None else [expected])


def in_parts(*splits: str | None) -> list[LabelledImage]:
    return [LabelledImage(f"{n}.png", f"{n}.png", bool(n % 2), split=split) for n, split in enumerate(splits)]


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (None, ["0.png", "1.png", "2.png", "3.png"]),
        ("test", ["1.png", "3.png"]),
        ("Testing", ["1.png", "3.png"]),  # as a folder may be called
        ("calib", ["0.png"]),
    ],
)
def test_a_part_is_taken_by_any_of_its_words(split: str | None, names: list[str]) -> None:
    chosen = images_of_split(in_parts("calibration", "test", None, "test"), split)
    assert [image.name for image in chosen] == names


@pytest.mark.parametrize(
    ("splits", "split", "error"),
    [
        (("train", "test", "test"), "holdout",
         "--split: got 'holdout'; expected one of train, val, calibration, test; there are train (1), test (2)"),
        (("train", "val", None), "test",
         "--split test: no image lies in it; there are train (1), val (1), and 1 images in none"),
        ((None, None), "val", "--split val: no image lies in it; none of 2 images says its part, by a folder such as "
                              "test/ or a column `split`"),
        (("train",), "", "--split: got ''; expected one of train, val, calibration, test; there are train (1)"),
    ],
)  # fmt: skip
def test_a_part_that_is_not_there_is_named_with_those_that_are(
    splits: tuple[str | None, ...], split: str, error: str
) -> None:
    with pytest.raises(UsageError) as raised:
        images_of_split(in_parts(*splits), split)
    assert str(raised.value) == error


def test_parts_come_from_folders_and_from_a_column(tmp_path: Path) -> None:
    for place in ("test/fake/a.png", "real/test/b.png", "train/fake/c.png", "real/d.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    found, _ = labelled_images(tmp_path, "folder")
    assert [image.name for image in images_of_split(found, "test")] == ["real/test/b.png", "test/fake/a.png"]
    table = tmp_path / "labels.csv"
    table.write_text("path,label,split\ntest/fake/a.png,fake,train\nreal/d.png,real,test\n")
    found, _ = labelled_images(tmp_path, str(table))
    assert [image.name for image in images_of_split(found, "test")] == ["real/d.png"]
