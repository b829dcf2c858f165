"""Tiers of delivery: what happens to a picture on its way to the judge. Validation and test look at each of them.

Whole pictures, by OpenCV; the same for every image, no chance in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from glass_rt.errors import UsageError
from glass_rt.image.decode import Pixels

_420, _444 = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444


def jpeg(pixels: Pixels, quality: int, sampling: int = _420) -> Pixels:
    """RGB uint8 (H, W, 3) coded as JPEG and decoded."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    assert done, "OpenCV writes JPEG"
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    assert decoded is not None, "it has just been coded"
    return decoded.astype(np.uint8, copy=False)


def scaled(pixels: Pixels, factor: float) -> Pixels:
    """The picture resized, by pixel area where it shrinks; at least one pixel remains."""
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, (width, height), interpolation=kind).astype(np.uint8, copy=False)


TIERS: Mapping[str, Callable[[Pixels], Pixels] | None] = {
    "clean": None,
    "jpeg95": lambda pixels: jpeg(pixels, 95, _444),
    "jpeg90": lambda pixels: jpeg(pixels, 90),
    "jpeg70": lambda pixels: jpeg(pixels, 70),
    "web": lambda pixels: jpeg(scaled(pixels, 0.7), 80),
}
DEFAULT_TIERS = ("clean", "jpeg90", "jpeg70", "web")


def check_tiers(names: tuple[str, ...]) -> None:
    """Raises UsageError for a name that is none, and for none at all."""
    if not names or (strange := [name for name in names if name not in TIERS]):
        got = repr(strange[0]) if names else "none"
        raise UsageError(f"tiers: got {got}; expected some of {', '.join(TIERS)}")
