"""The inference that shows whether an engine works: a synthetic picture goes through the whole pipeline."""

from __future__ import annotations

import math

import cv2
import numpy as np

from glass_rt.errors import BackendError
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Verdict

OPTIONS = DetectOptions(crops=1, seed=0)


def canary_image() -> bytes:
    """A PNG of 256 x 256 pixels, two slopes and a checkerboard."""
    rows, columns = np.mgrid[0:256, 0:256].astype(np.uint8)
    bgr = np.stack([rows, columns, ((rows ^ columns) & 16) * 15], axis=2)
    done, encoded = cv2.imencode(".png", bgr)
    assert done, "OpenCV writes PNG"
    return encoded.tobytes()


def check_canary(verdict: Verdict) -> None:
    """Raises BackendError where a number of the verdict is not finite."""
    numbers = (verdict.probability_fake, *verdict.logits, *verdict.probabilities.values())
    if not all(math.isfinite(number) for number in numbers):
        raise BackendError(f"the canary picture got probabilities {verdict.probabilities}: the engine is broken")
