"""Names that tests import: where the golden numbers are, the types of the shared fixtures, pictures on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from glass_rt.bundle.bundle import Bundle, PortableModel
from tests.command_line import Cli

__all__ = ["GOLDEN", "Bundles", "Cli", "Portables", "write_picture"]

GOLDEN = Path(__file__).parent / "golden"

Portables = Callable[..., PortableModel]
Bundles = Callable[..., Bundle]


def write_picture(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Writes RGB pixels in the format of the path's suffix."""
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert done
    path.write_bytes(encoded.tobytes())
