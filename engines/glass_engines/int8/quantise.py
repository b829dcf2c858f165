"""ONNX graphs in fp32 to ONNX graphs in INT8, by NNCF, and what that costs: `--precision int8`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_engines.int8.calibration import CalibrationViews
from glass_rt.backends import Backend
from glass_rt.backends.base import Floats
from glass_rt.backends.embedding import embed
from glass_rt.bundle.manifest import Model
from glass_rt.bundle.precision_report import PrecisionReport
from glass_rt.errors import BuildError, MissingDependency, ParityError, first_line
from glass_rt.inference.head import Head
from glass_rt.inference.parity import Tolerance
from glass_rt.machine.telemetry import keep_silent

# Attention and LayerNorm want NNCF's transformer scheme: it keeps what they cannot bear out of INT8.
_TRANSFORMER_LIKE = ("vit", "convnext")
MOST_VIEWS = 300  # NNCF's own default; more change the ranges little
_BATCH = 16


def quantised_from_onnx(graph: Path, views: NDArray[Any], output: Path, model: Model) -> None:
    """Calibrates activations on `views` (N, S, S, 3), in the type of the graph's input, and writes a QDQ graph.

    Weights and activations of convolutions and matrix products become INT8; normalisation, LayerNorm, softmax and the
    embedding stay float32. Raises MissingDependency, BuildError.
    """
    keep_silent()
    try:
        import nncf
        import onnx
    except ImportError as error:
        raise MissingDependency(error.name or "nncf", "int8", "building INT8 engines") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    step = max(1, len(views) // MOST_VIEWS)
    samples = [view[None] for view in views[::step][:MOST_VIEWS]]
    transformer = model.backbone.startswith(_TRANSFORMER_LIKE)
    try:
        quantised = nncf.quantize(
            onnx.load(graph),
            nncf.Dataset(samples, lambda view: {"pixels": view}),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
        )
    except Exception as error:  # the library raises many unrelated types
        raise BuildError(f"NNCF cannot quantise {graph.name}: {first_line(error)}") from error
    onnx.save(quantised, output)


def accuracy_report(
    exact: Mapping[str, Backend],
    narrow: Mapping[str, Backend],
    head: Head,
    model: Model,
    held_out: CalibrationViews,
    tolerance: Tolerance,
) -> PrecisionReport:
    """Compares INT8 with float32 engines on images that the calibration has not seen.

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
    return PrecisionReport(f"the engines themselves, on {count} images kept out; {figures}", embedding, difference, {})


def _logits(head: Head, embeddings: Mapping[str, Floats], views: CalibrationViews) -> Floats:
    count, crops = views.crops.shape[:2]
    local = (
        embeddings["local"].reshape(count, crops, -1) if "local" in embeddings else np.empty((count, 0, 0), np.float32)
    )
    pairs = zip(embeddings["global"], local, strict=True)
    return np.stack([head.judge(whole, owned).logits for whole, owned in pairs])
