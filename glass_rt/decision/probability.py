"""A calibrated probability: what share of images with such a score is AI-generated, at a stated prior."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import exp, isfinite, log
from typing import Literal, get_args

import numpy as np

from glass_rt.errors import CalibrationInvalid

CurveKind = Literal["logistic", "isotonic"]
LEAST = 2.0**-24  # half the step of float32 below 1: a score of 0 or 1 counts as this far from it


@dataclass(frozen=True)
class ProbabilityCurve:
    """From a raw score to a probability, never falling.

    `prior`: share of AI-generated images, 0..1 (both excluded), that the probability is true for. `logistic`:
    sigmoid(logit(score) / `temperature` + `bias`), with scores kept LEAST away from 0 and 1. `isotonic`: `knots` of
    (score, probability), linear between them and constant outside.
    """

    kind: str
    prior: float
    temperature: float | None = None
    bias: float | None = None
    knots: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(CurveKind):
            raise CalibrationInvalid(f"kind: got {self.kind!r:.60}; expected logistic or isotonic")
        if not 0 < self.prior < 1:
            raise CalibrationInvalid(f"prior: got {self.prior}; expected a share between 0 and 1")
        if self.kind == "logistic":
            self._check_logistic()
        else:
            self._check_isotonic()

    def probability(self, score: float) -> float:
        """The calibrated probability, 0..1, of a raw score, 0..1."""
        if self.temperature is not None and self.bias is not None:
            kept = min(max(score, LEAST), 1 - LEAST)
            return sigmoid(log(kept / (1 - kept)) / self.temperature + self.bias)
        scores, probabilities = zip(*self.knots, strict=True)
        return float(np.interp(score, scores, probabilities))

    def _check_logistic(self) -> None:
        if self.temperature is None or self.bias is None or self.knots:
            raise CalibrationInvalid("logistic: expected temperature and bias, and no knots")
        if not (isfinite(self.temperature) and self.temperature > 0 and isfinite(self.bias)):
            raise CalibrationInvalid(
                f"logistic: got temperature {self.temperature} and bias {self.bias}; expected a positive number and a "
                "number: the slope may not fall"
            )
        object.__setattr__(self, "temperature", float(self.temperature))  # an integer would get another id from JSON
        object.__setattr__(self, "bias", float(self.bias))

    def _check_isotonic(self) -> None:
        if self.temperature is not None or self.bias is not None or not self.knots:
            raise CalibrationInvalid("isotonic: expected knots, and neither temperature nor bias")
        if not all(0 <= number <= 1 for knot in self.knots for number in knot):
            raise CalibrationInvalid("isotonic: a knot is no pair of a score and a probability, both 0..1")
        if any(not (a[0] < b[0] and a[1] <= b[1]) for a, b in pairwise(self.knots)):
            raise CalibrationInvalid("isotonic: scores of knots must grow, and probabilities may not fall")
        object.__setattr__(self, "knots", tuple((float(score), float(found)) for score, found in self.knots))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))
