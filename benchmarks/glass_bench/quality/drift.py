"""Two engines image by image: which images change sides of the threshold, how far the probabilities drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glass_bench.report.statistics import Distribution, distribution


@dataclass(frozen=True)
class Flip:
    """An image that lies on another side of the threshold of the second engine."""

    name: str
    first: float
    second: float


@dataclass(frozen=True)
class Drift:
    """`absolute`: |second - first| of P(fake) over the images both judged; `mean` is signed."""

    first: str
    second: str
    images: int
    flips: tuple[Flip, ...]
    mean: float
    absolute: Distribution


def drift(
    first: str,
    second: str,
    names: Sequence[str],
    probabilities: tuple[Sequence[float], Sequence[float]],
    thresholds: tuple[float, float],
) -> Drift:
    """Compares P(fake) of two engines over the same images, at least one."""
    ours, theirs = np.asarray(probabilities[0], np.float64), np.asarray(probabilities[1], np.float64)
    flipped = np.flatnonzero((ours >= thresholds[0]) != (theirs >= thresholds[1]))
    return Drift(
        first,
        second,
        len(names),
        tuple(Flip(names[i], float(ours[i]), float(theirs[i])) for i in flipped.tolist()),
        float((theirs - ours).mean()),
        distribution(np.abs(theirs - ours).tolist()),
    )
