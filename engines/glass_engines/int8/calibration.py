"""Views of real images, by the runtime's own decoder and sampling: to calibrate INT8 on, and held out to check it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glass_rt.bundle.manifest import Model
from glass_rt.errors import GlassError, UsageError
from glass_rt.image.encoded import load
from glass_rt.image.sampling import default_seed, stratified
from glass_rt.image.views import baseline_view, cut_crops, global_view
from glass_rt.inference.find_images import find_images
from glass_rt.results.verdict import Failure

MOST_IMAGES = 120
HELD_OUT_EVERY = 4  # every fourth image is held out, the others calibrate


@dataclass(frozen=True, eq=False)
class CalibrationViews:
    """Global views float32 (n, S, S, 3), and crops uint8 (n, K, S, S, 3) (K = 0 for the resize-only architecture)."""

    wholes: NDArray[np.float32]
    crops: NDArray[np.uint8]

    def of(self, role: str) -> NDArray[np.float32] | NDArray[np.uint8]:
        """What the engine of a role sees, one view per row."""
        return self.wholes if role == "global" else self.crops.reshape(-1, *self.crops.shape[2:])


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Views of two disjoint sets of images: one to calibrate on, one held out to compare INT8 with float32 on."""

    calibrating: CalibrationViews
    held_out: CalibrationViews


def calibration_set(folder: Path, model: Model) -> CalibrationSet:
    """The views of up to 120 readable images under `folder`, one in four of them kept out of the calibration.

    Raises UsageError where it holds fewer images than either set needs.
    """
    if not folder.is_dir():
        raise UsageError(f"calibration: {folder} is not a folder of images")
    found = list(islice(_views(folder, model), MOST_IMAGES))
    if len(found) < HELD_OUT_EVERY:
        raise UsageError(
            f"calibration: {folder} holds {len(found)} readable images; at least {HELD_OUT_EVERY} are needed"
        )
    held_out = found[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    calibrating = [pair for index, pair in enumerate(found) if index % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    return CalibrationSet(_stacked(calibrating), _stacked(held_out))


def _views(folder: Path, model: Model) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    for source in find_images([str(folder)]):
        if isinstance(source, Failure):
            continue
        try:
            image = load(source)
        except GlassError:  # the folder is the user's own; what cannot be read cannot calibrate
            continue
        size, info = model.crop_size, image.info
        crops = np.empty((model.trained_crops, size, size, 3), np.uint8)
        if model.architecture == "resize":
            yield baseline_view(image.pixels, size), crops
            continue
        boxes = stratified(info.height, info.width, model.trained_crops, default_seed(info.sha256), size).boxes
        cut_crops(image.pixels, boxes, crops)
        yield global_view(image.pixels, size), crops


def _stacked(pairs: list[tuple[NDArray[np.float32], NDArray[np.uint8]]]) -> CalibrationViews:
    return CalibrationViews(np.stack([whole for whole, _ in pairs]), np.stack([crops for _, crops in pairs]))
