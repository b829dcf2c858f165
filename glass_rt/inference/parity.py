"""The parity gate: an engine must compute what PyTorch computed, or it is not used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.backends import Backend
from glass_rt.backends.base import Floats
from glass_rt.backends.embedding import embed
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import Model, Parity
from glass_rt.bundle.precision_report import PrecisionReport
from glass_rt.errors import BackendError, ParityError
from glass_rt.inference.head import Head


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted relative L2 distance of an embedding, and absolute difference of a logit."""

    embedding: float
    logits: float


# fp32: over ten times the largest drift seen with ONNX Runtime on the five backbones (7.4e-7; 1e-5 of a logit).
# fp16: the rounding of 11 bits through the deepest backbone; computed by PyTorch, the five backbones drift by 3e-4 to
# 1.3e-3. bf16 has three bits less, so eight times as much. Logits: the head's gain on that.
# int8: only to tell a broken engine, since the reference views are unlike what it was calibrated on; the build judges
# it by real images, more strictly.
TOLERANCES = {
    "fp32": Tolerance(embedding=1e-5, logits=5e-5),
    "fp16": Tolerance(embedding=2e-3, logits=1e-2),
    "bf16": Tolerance(embedding=1.6e-2, logits=8e-2),
    "int8": Tolerance(embedding=0.4, logits=1.2),
}


# An engine whose library sums in half may drift so many times as far as was simulated of such sums, on few views; and
# no further than bf16 may, beyond which something else is wrong. Logits decide as before.
HALF_SUMS_MARGIN = 1.5


def tolerance_of(precision: str, report: PrecisionReport | None) -> Tolerance:
    """What the gate allows an engine of that precision, given what the export found of its graphs."""
    usual = TOLERANCES[precision]
    if precision != "fp16" or report is None or report.half_sums is None:
        return usual
    simulated = min(HALF_SUMS_MARGIN * report.half_sums.embedding, TOLERANCES["bf16"].embedding)
    return Tolerance(max(usual.embedding, simulated), usual.logits)


def check_parity(
    engines: Mapping[str, Backend],
    head: Head,
    model: Model,
    reference: Mapping[str, NDArray[Any]],
    tolerance: Tolerance,
    max_batch: int = 1,
    *,
    batches: Sequence[int] | None = None,
) -> Parity:
    """Runs the reference views through the engines and the head; returns the worst figures.

    `reference` holds `global_views`, `crops`, `offsets` (image i owns crops offsets[i]..offsets[i+1]) and what PyTorch
    computed in float32: `global_embeddings`, `local_embeddings`, `logits`. Every engine runs them one by one, two by
    two, and all at once, or in runs of the sizes `batches`. Raises ParityError: past the tolerance, NaN, a batch size
    baked in, or a verdict that flips (counted for trained weights only: an untrained model's verdicts mean nothing).
    """
    embeddings: dict[str, Floats] = {}
    worst = 0.0
    for role in model.roles:
        views = reference["global_views" if role == "global" else "crops"]
        expected = reference[f"{role}_embeddings"]
        for batch in batches or sorted({1, min(2, max_batch), min(len(views), max_batch)}):
            found = _embeddings(engines[role], views, batch, role)
            distance = _relative_distance(found, expected)
            if not distance <= tolerance.embedding:  # also NaN
                raise ParityError(
                    f"{role} engine, batch {batch}: embeddings differ from PyTorch's by {distance:.2e} (relative L2), "
                    f"more than the {tolerance.embedding:.1e} that this precision may"
                )
            worst = max(worst, distance)
        embeddings[role] = found
    logits = _logits(head, embeddings, reference["offsets"])
    difference = float(np.abs(logits - reference["logits"]).max())
    if not difference <= tolerance.logits:
        raise ParityError(
            f"logits differ from PyTorch's by {difference:.2e}, "
            f"more than the {tolerance.logits:.0e} that this precision may"
        )
    flips = int((logits.argmax(axis=1) != reference["logits"].argmax(axis=1)).sum())
    if flips and model.weights.trained:
        raise ParityError(f"{flips} of {len(logits)} reference verdicts flip")
    return Parity("passed", worst, difference, tolerance.embedding, tolerance.logits)


def verify_parity(bundle: Bundle, engines: Mapping[str, Backend]) -> Parity:
    """The gate over an opened bundle, by its own reference values and the tolerance of its precision."""
    manifest = bundle.manifest
    head = Head.for_model(manifest.model, bundle.head())
    tolerance = tolerance_of(manifest.engine.precision, manifest.precision_report)
    return check_parity(engines, head, manifest.model, bundle.reference(), tolerance, manifest.engine.max_batch)


def _embeddings(engine: Backend, views: NDArray[np.float32], batch: int, role: str) -> Floats:
    try:
        found = embed(engine, views, batch)
    except BackendError as error:
        raise ParityError(f"{role} engine, batch {batch}: {error}") from error
    if not np.isfinite(found).all():
        raise ParityError(f"{role} engine, batch {batch}: embeddings hold NaN or infinity")
    return found


def _relative_distance(found: Floats, expected: Floats) -> float:
    """The worst row's relative L2 distance."""
    if found.shape != expected.shape:
        raise ParityError(f"embeddings are {found.shape}; PyTorch's are {expected.shape}")
    norms = np.linalg.norm(expected, axis=1)
    return float((np.linalg.norm(found - expected, axis=1) / norms).max())


def _logits(head: Head, embeddings: Mapping[str, Floats], offsets: NDArray[np.float32]) -> Floats:
    local = embeddings.get("local", np.empty((0, 0), np.float32))
    rows = [
        head.judge(embedding, local[int(start) : int(stop)]).logits
        for embedding, (start, stop) in zip(embeddings["global"], pairwise(offsets), strict=True)
    ]
    return np.stack(rows)
