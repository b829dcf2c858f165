"""Images that a model was trained with are warned of."""

from __future__ import annotations

import pytest

from glass_rt.labelled.labels import LabelledImage
from glass_rt.labelled.parts import part_warnings


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
