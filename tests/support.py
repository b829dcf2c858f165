"""Names that tests import: where the golden numbers are, the types of the shared fixtures, pictures on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from glass_export.model import Glass, ResizeOnly
from numpy.typing import NDArray

from glass_rt.bundle.bundle import Bundle, PortableModel
from tests.command_line import Cli

__all__ = [
    "FAULTS_VARIABLE",
    "GOLDEN",
    "IMAGES_VARIABLE",
    "PAIRS_VARIABLE",
    "Bundles",
    "Cli",
    "Portables",
    "TorchModels",
    "folder_named_by",
    "write_picture",
]

GOLDEN = Path(__file__).parent / "golden"

# Folders of real files, which the environment names: photographs and pictures of generators; real windows with their
# resynthesised twins; small files that made earlier versions fail.
IMAGES_VARIABLE, PAIRS_VARIABLE, FAULTS_VARIABLE = (f"GLASS_RT_TEST_{kind}" for kind in ("IMAGES", "PAIRS", "FAULTS"))

Portables = Callable[..., PortableModel]
Bundles = Callable[..., Bundle]
TorchModels = Callable[..., Glass | ResizeOnly]


def folder_named_by(variable: str) -> Path | None:
    """The folder that a variable of the environment names, or None where there is none."""
    named = os.environ.get(variable)
    return Path(named) if named and Path(named).is_dir() else None


def write_picture(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Writes RGB pixels in the format of the path's suffix."""
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert done
    path.write_bytes(encoded.tobytes())
