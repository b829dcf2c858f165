"""Distributions of scores that are known: what share of images lies beyond a threshold is computed, not counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class KnownScores:
    """Scores whose logits are normal around `mean` with the deviation 1.

    With `levels` they are rounded to so many equal steps of 0..1, which ties them.
    """

    mean: float
    levels: int | None = None

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        """`count` scores, 0..1."""
        scores: Floats = expit(self.mean + generator.standard_normal(count))
        return scores if self.levels is None else self._steps()[np.rint(scores * self.levels).astype(np.int64)]

    def share_above(self, threshold: float) -> float:
        """The share of all images with a score strictly above a threshold."""
        if self.levels is None:
            return float(ndtr(self.mean - _logit(threshold)))
        highest = int(np.searchsorted(self._steps(), threshold, side="right")) - 1  # the last that is not above
        return float(ndtr(self.mean - _logit((highest + 0.5) / self.levels)))

    def share_below(self, threshold: float) -> float:
        """The share of all images with a score strictly below a threshold."""
        if self.levels is None:
            return float(ndtr(_logit(threshold) - self.mean))
        lowest = int(np.searchsorted(self._steps(), threshold, side="left"))  # the first that is not below
        return float(ndtr(_logit((lowest - 0.5) / self.levels) - self.mean))

    def quantile(self, share: float) -> float:
        """The score below which this share of images lies, for scores that are not rounded."""
        return float(expit(self.mean + ndtri(share)))

    def _steps(self) -> Floats:
        steps: Floats = np.linspace(0, 1, (self.levels or 0) + 1)
        return steps


def _logit(value: float) -> float:
    return float(logit(min(max(value, 0.0), 1.0)))
