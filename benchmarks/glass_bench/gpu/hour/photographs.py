"""The photographs of these steps, re-encoded: sizes, qualities, samplings and kinds of JPEG are ours to choose.

They come from the folder named by $GPU_KIT_PHOTOS, as JPEG files; without it, from a made landscape.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

VARIABLE, UNTOUCHED = "GPU_KIT_PHOTOS", "GPU_KIT_ORIGINALS"  # the second: files that are not encoded again
SAMPLING = {"444": 0x111111, "422": 0x211111, "420": 0x221111, "440": 0x121111}
SIZES = {"12 MP": (3000, 4000), "24 MP": (4000, 6000)}  # height, width


@dataclass(frozen=True)
class Kind:
    """How a photograph is encoded; `grey` leaves one channel."""

    quality: int = 85
    sampling: str = "420"
    progressive: bool = False
    restart: int = 0
    grey: bool = False

    def __str__(self) -> str:
        extras = [name for name in ("progressive", "grey") if getattr(self, name)] + ["restart"] * bool(self.restart)
        return " ".join([f"q{self.quality}", self.sampling, *extras])


KINDS = (
    *(Kind(quality, sampling) for quality in (75, 85, 95) for sampling in ("420", "422", "444")),
    Kind(sampling="440"), Kind(grey=True), Kind(progressive=True), Kind(restart=8),
)  # fmt: skip


@cache
def photographs() -> tuple[NDArray[np.uint8], ...]:
    """RGB pixels of every photograph, largest first."""
    folder = os.environ.get(VARIABLE)
    files = sorted(Path(folder).glob("*.jpg")) if folder else []
    found: list[Any] = [cv2.imread(str(file), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) for file in files]
    if not found:
        from glass_bench.sample import landscape

        return (landscape(606, 1200, 900),)
    return tuple(np.ascontiguousarray(pixels[:, :, ::-1]) for pixels in sorted(found, key=lambda p: -p.size))


def untouched() -> list[Path]:
    """JPEG files as cameras and editors wrote them; [] where no folder of such is named."""
    folder = os.environ.get(UNTOUCHED)
    return sorted(Path(folder).glob("*.jpg")) if folder else []


def of_size(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The photograph's middle at that size, mirrored at its edges where it is smaller: the detail stays a camera's."""
    more = [max(0, height - pixels.shape[0]), max(0, width - pixels.shape[1])]
    pixels = np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), mode="reflect")
    top, left = ((pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def encoded(pixels: NDArray[np.uint8], kind: Kind) -> bytes:
    """A JPEG file."""
    flags = [
        cv2.IMWRITE_JPEG_QUALITY, kind.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[kind.sampling],
        cv2.IMWRITE_JPEG_PROGRESSIVE, int(kind.progressive), cv2.IMWRITE_JPEG_RST_INTERVAL, kind.restart,
    ]  # fmt: skip
    source = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if kind.grey else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", source, flags)
    assert done
    return data.tobytes()


def decoded(data: bytes) -> NDArray[np.uint8]:
    """OpenCV's RGB pixels."""
    pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.ascontiguousarray(pixels[:, :, ::-1])
