"""The judgement of one image, and when more crops could hardly change it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glass_rt.backends.base import Floats
from glass_rt.inference.head import HeadOutput


@dataclass(frozen=True)
class Stopping:
    """When `crops auto` has seen enough: |P(fake) - threshold| > margin x standard error."""

    fake_index: int
    threshold: float
    margin: float

    def enough(self, output: HeadOutput) -> bool:
        """Whether more crops could hardly change the label."""
        distance = abs(float(output.probabilities[self.fake_index]) - self.threshold)
        return distance > self.margin * jackknife_error(output.without[:, self.fake_index])


@dataclass(frozen=True, eq=False)
class Judgement:
    """The head's output for one image, over its first `used` crops, and its share of the time.

    `engine_ms` is the batch's time divided by views, `aggregate_ms` was measured. `draws` holds the probability of
    each independent sampling, float32 (R, 2).
    """

    output: HeadOutput
    draws: Floats
    used: int
    engine_ms: float
    aggregate_ms: float


def jackknife_error(without: Floats) -> float:
    """Standard error of a probability over K crops, from its K leave-one-out values (Efron, 1982, chapter 3)."""
    count = len(without)
    if count < 2:
        return float("inf")
    spread = np.square(without - without.mean()).sum()
    return float(np.sqrt((count - 1) / count * spread))
