"""The decision that a run's bundle gets from the images kept apart for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from glass_train.data.scan import Scanned
from glass_train.finish.decision import calibrated

from glass_rt.bundle.bundle import Bundle
from glass_rt.labelled.labels import LabelledImage
from glass_rt.progress import silent
from tests.bench_zoo import write_bundle, write_picture


def kept_apart(folder: Path, fakes: int, reals: int) -> list[Scanned]:
    images = []
    for fake, count in ((True, fakes), (False, reals)):
        for number in range(count):
            colour = (150 + number % 60, 90, number // 60) if fake else (number // 60, 100, 150 + number % 60)
            path = write_picture(folder / f"{fake}{number}.png", colour, 24, 24)
            images.append(Scanned(LabelledImage(str(path), path.name, fake, group=f"{fake}{number}"), "", "", 24, 24))
    return images


@pytest.mark.parametrize(
    ("fakes", "reals", "says", "decided"),
    [
        (70, 320, "calibrated on 390 images kept apart: ", True),
        (5, 5, "not calibrated with 10 images: ", False),
        (0, 0, "not calibrated: too few images", False),
    ],
)
def test_a_bundle_is_calibrated_where_enough_images_allow_it(
    fakes: int, reals: int, says: str, decided: bool, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "zoo")
    images = kept_apart(tmp_path / "data", fakes, reals)
    line = calibrated(bundle, tmp_path / "data", images, tmp_path, 606, silent)
    assert line.startswith(says)
    assert (Bundle.open(bundle).manifest.decision is not None) == decided
    assert decided or line.endswith("the threshold of 0.5 promises nothing")
