"""The views over which ranges are probed: of real images where there are some, else seeded ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glass_export.model import CROP_SIZE
from glass_export.reference import texture
from glass_rt.errors import GlassError, UsageError
from glass_rt.image.encoded import load
from glass_rt.image.sampling import default_seed, stratified
from glass_rt.image.views import cut_crops, global_view
from glass_rt.inference.find_images import find_images
from glass_rt.results.verdict import Failure

MOST_IMAGES = 16
CROPS = 2
SEED = 65504


def seeded_views() -> Tensor:
    """(8, S, S, 3) float32: textures, noise, black, white, and a checkerboard of both, the harshest edges there are."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    shape = (CROP_SIZE, CROP_SIZE, 3)
    board = np.indices(shape[:2]).sum(axis=0)[..., None] % 2 * np.full(3, 255.0)
    noise = generator.integers(0, 256, shape)
    views = [texture(generator) for _ in range(4)] + [noise, np.zeros(shape), np.full(shape, 255.0), board]
    return torch.from_numpy(np.stack(views).astype(np.float32))


def views_of_images(folder: Path) -> tuple[Tensor, Tensor, int]:
    """Global views (n, S, S, 3) and crops (2n, S, S, 3), float32, of at most 16 images under `folder`, and n.

    Raises UsageError where no image there can be read.
    """
    if not folder.is_dir():
        raise UsageError(f"calibration: {folder} is not a folder of images")
    wholes, crops = list[NDArray[np.float32]](), list[NDArray[np.float32]]()
    for source in find_images([str(folder)]):
        if len(wholes) == MOST_IMAGES:
            break
        try:
            image = load(source) if not isinstance(source, Failure) else None
        except GlassError:  # the folder is the user's own; what cannot be read cannot calibrate
            continue
        if image is not None:
            boxes = stratified(
                image.info.height, image.info.width, CROPS, default_seed(image.info.sha256), CROP_SIZE
            ).boxes
            cut = np.empty((CROPS, CROP_SIZE, CROP_SIZE, 3), np.uint8)
            cut_crops(image.pixels, boxes, cut)
            wholes.append(global_view(image.pixels, CROP_SIZE))
            crops.append(cut.astype(np.float32))
    if not wholes:
        raise UsageError(f"calibration: no image in {folder} can be read")
    return torch.from_numpy(np.stack(wholes)), torch.from_numpy(np.concatenate(crops)), len(wholes)
