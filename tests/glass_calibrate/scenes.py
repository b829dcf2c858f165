"""Small labelled pictures whose scores overlap."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_scenes(folder: Path, count: int, seed: int = 5, suffix: str = ".png") -> Path:
    """`count` reddish pictures under `fake` and bluish ones under `real`, half of each in `phone` and half in `scan`."""
    generator = np.random.Generator(np.random.PCG64(seed))
    for kind, mean in (("fake", 6.0), ("real", -6.0)):
        for number in range(count):
            source = ("phone", "scan")[number % 2]
            write_scene(folder / kind / source / f"{number:03}{suffix}", generator.normal(mean, 8.0), generator)
    return folder


def write_scene(path: Path, redness: float, generator: np.random.Generator) -> Path:
    """A noisy picture of 40 x 32 pixels, `redness` levels redder than grey."""
    colour = np.array([120 + redness, 110 - redness, 110 - redness])
    pixels = np.clip(colour + generator.normal(0, 5, (32, 40, 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[:, :, ::-1])
    return path
