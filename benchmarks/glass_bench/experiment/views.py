"""Training data of the two models: the runtime's own views of rendered scenes, held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glass_bench.experiment.scenes import SceneSpec, render
from glass_rt.image.decode import Pixels
from glass_rt.image.encoded import load
from glass_rt.image.sampling import default_seed, stratified
from glass_rt.image.views import baseline_view, cut_crops, global_view
from glass_rt.machine.environment import usable_cores

CROP_SIZE = 224
FAKE, REAL = 0, 1  # alphabetical, as in the authors' folders


@dataclass(frozen=True, eq=False)
class ViewSet:
    """Views of N images, with M crops of each: a training step draws K of them.

    `global_views` float32 (N, S, S, 3), `baseline_views` uint8 (N, S, S, 3), `crops` uint8 (N, M, S, S, 3), all
    0..255 RGB; `labels` int64 (N,), FAKE or REAL.
    """

    global_views: NDArray[np.float32]
    baseline_views: Pixels
    crops: Pixels
    labels: NDArray[np.int64]


def view_set(specs: Sequence[SceneSpec], stored_crops: int) -> ViewSet:
    """Renders every scene twice, fake and real, and makes the views."""
    count = 2 * len(specs)
    views = ViewSet(
        np.empty((count, CROP_SIZE, CROP_SIZE, 3), np.float32),
        np.empty((count, CROP_SIZE, CROP_SIZE, 3), np.uint8),
        np.empty((count, stored_crops, CROP_SIZE, CROP_SIZE, 3), np.uint8),
        np.tile(np.array([FAKE, REAL], np.int64), len(specs)),
    )

    def fill(index: int) -> None:
        for twin, encoded in enumerate(render(specs[index])):
            _store(views, 2 * index + twin, encoded, stored_crops)

    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(fill, range(len(specs))))
    return views


def _store(views: ViewSet, row: int, encoded: bytes, stored_crops: int) -> None:
    image = load(encoded)
    sampling = stratified(image.info.height, image.info.width, stored_crops, default_seed(image.info.sha256), CROP_SIZE)
    views.global_views[row] = global_view(image.pixels, CROP_SIZE)
    views.baseline_views[row] = baseline_view(image.pixels, CROP_SIZE)
    cut_crops(image.pixels, sampling.boxes, views.crops[row])
