from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from glass_export.half.probe_views import MOST_IMAGES, views_of_images
from glass_export.portable import ExportOptions

from glass_rt.errors import UsageError


def test_calibration_looks_at_the_images_of_a_folder(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for index in range(MOST_IMAGES + 2):
        cv2.imwrite(str(tmp_path / f"{index:02}.png"), generator.integers(0, 256, (240, 300, 3), dtype=np.uint8))
    (tmp_path / "00.jpg").write_bytes(b"not an image")
    wholes, crops, count = views_of_images(tmp_path)
    assert count == MOST_IMAGES
    assert wholes.shape == (MOST_IMAGES, 224, 224, 3)
    assert crops.shape == (2 * MOST_IMAGES, 224, 224, 3)
    assert 0 <= float(crops.min()) < float(crops.max()) <= 255


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no image in .* can be read"):
        views_of_images(tmp_path)
    with pytest.raises(UsageError, match="is not a folder of images"):
        views_of_images(tmp_path / "none")


def test_precisions_that_no_graph_has_are_refused() -> None:
    with pytest.raises(UsageError, match="precision: got int8; graphs are exported in fp32, fp16, bf16"):
        ExportOptions("resnet18", precisions=("fp32", "int8"))
