"""Whole verdicts of several images in one pack, with as many crops each as may be, against PyTorch in float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from glass_bench.measure.contenders import Contender
from glass_rt.detector import Detector
from glass_rt.inference.parity import TOLERANCES
from glass_rt.options import DetectOptions

# Height, width and crops: one crop, more crops than cells, a window smaller than a crop, more crops than 16.
IMAGES = ((900, 1200, 1), (700, 1000, 10), (2000, 1100, 2), (180, 300, 3), (2000, 2000, 20), (460, 460, 7))

VIEWS = 1e-4  # what the resize's float32 sums, added up in another order than PyTorch's, may cost


def ragged_verdicts(
    path: Path, images: Sequence[tuple[int, int, int]] = IMAGES, *, views: str = "host"
) -> dict[str, Any]:
    """Judges `images` (height, width, crops) at the same time, and each by the plain PyTorch pipeline on the CPU.

    Raises AssertionError where a probability is further off than the precision's logits may be: P(fake) changes by at
    most a quarter of the change of the logits' difference, which is at most twice that of a logit. `views`: see
    `Detector.open`.
    """
    from glass_bench.measure.systems.torch_pipeline import TorchSystem

    reference = TorchSystem(Contender("pytorch", "pytorch", str(path)))
    distances = {}
    with TemporaryDirectory() as folder, Detector.open(path, views=views) as detector, detector.pipeline() as pipeline:
        pictures = [_picture(Path(folder) / f"{index}.png", *shape[:2]) for index, shape in enumerate(images)]
        crops = [shape[2] for shape in images]
        pending = [
            pipeline.submit(picture, DetectOptions(crops=count)) for picture, count in zip(pictures, crops, strict=True)
        ]
        for picture, shape, future in zip(pictures, images, pending, strict=True):
            expected = reference.judge(str(picture), shape[2])
            if expected.probability_fake is None:
                raise RuntimeError(expected.error)
            name = f"{shape[1]} x {shape[0]}, {shape[2]} crops"
            distances[name] = abs(future.result().probability_fake - expected.probability_fake)
        allowed = TOLERANCES[detector.manifest.engine.precision].logits / 2 + VIEWS
    if max(distances.values()) > allowed:
        raise AssertionError(f"verdicts are not PyTorch's: P(fake) differs by {distances}, allowed is {allowed:.1e}")
    return {"difference of P(fake)": distances, "largest difference": max(distances.values()), "allowed": allowed}


def _picture(path: Path, height: int, width: int) -> Path:
    """Noise over a gradient: no two windows are alike."""
    generator = np.random.default_rng(height * width)
    slope = np.linspace(0, 160, width)[None, :, None] * np.array([1.0, 0.5, 0.2])
    pixels = slope + generator.integers(0, 96, (height, width, 3))
    if not cv2.imwrite(str(path), pixels.astype(np.uint8)):
        raise OSError(f"{path} cannot be written")
    return path
