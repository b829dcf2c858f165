"""What INT8 costs: the engines against float32, on images that the calibration has not seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from glass_engines.int8.calibration import CalibrationViews
from glass_rt.backends import Backend
from glass_rt.backends.base import Floats
from glass_rt.backends.embedding import embed
from glass_rt.bundle.manifest import Model
from glass_rt.bundle.precision_report import PrecisionReport
from glass_rt.errors import ParityError
from glass_rt.inference.head import Head
from glass_rt.inference.parity import Tolerance

_BATCH = 16


def accuracy_report(
    exact: Mapping[str, Backend],
    narrow: Mapping[str, Backend],
    head: Head,
    model: Model,
    held_out: CalibrationViews,
    tolerance: Tolerance,
    computed_by: str = "the engines themselves",
) -> PrecisionReport:
    """Compares INT8 engines (`computed_by` names them) with float32, on images that the calibration has not seen.

    Raises ParityError past the tolerance, or where verdicts of trained weights flip.
    """
    embedding = 0.0
    found: list[dict[str, Floats]] = []
    for engines in (exact, narrow):
        found.append({role: embed(engines[role], held_out.of(role), _BATCH) for role in model.roles})
    for role in model.roles:
        expected, got = found[0][role], found[1][role]
        distances = np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1)
        embedding = max(embedding, float(distances.max()))
    logits = [_logits(head, embeddings, held_out) for embeddings in found]
    difference = float(np.abs(logits[1] - logits[0]).max())
    flips = int((logits[0].argmax(axis=1) != logits[1].argmax(axis=1)).sum())
    count = len(held_out.wholes)
    figures = (
        f"embeddings by {embedding:.3f} (relative L2), logits by {difference:.3f}, {flips} of {count} verdicts flip"
    )
    too_far = not (embedding <= tolerance.embedding and difference <= tolerance.logits)
    if too_far or (flips and model.weights.trained):
        raise ParityError(
            f"INT8 changes too much on images kept out of the calibration: {figures}; allowed are "
            f"{tolerance.embedding:g} and {tolerance.logits:g}, and no flips of trained weights. "
            "Calibrate on more images, use bf16, or accept more with --tolerance"
        )
    return PrecisionReport(f"{computed_by}, on {count} images kept out; {figures}", embedding, difference, {})


def _logits(head: Head, embeddings: Mapping[str, Floats], views: CalibrationViews) -> Floats:
    count, crops = views.crops.shape[:2]
    local = (
        embeddings["local"].reshape(count, crops, -1) if "local" in embeddings else np.empty((count, 0, 0), np.float32)
    )
    pairs = zip(embeddings["global"], local, strict=True)
    return np.stack([head.judge(whole, owned).logits for whole, owned in pairs])
