"""The bound behind a threshold: how many images of one class may lie beyond it, and where it then lies.

A threshold at the (k+1)-th largest score of n images, `fake` strictly above it, exceeds the rate r in the long run
only where at most k of the n images lay above the true (1 - r) quantile. The chance of that is P(Bin(n, r) <= k) for
continuous scores, whatever their distribution, and less where scores are tied: so the sample that chose the threshold
also vouches for it. Source: Wilks, "Determination of sample sizes for setting tolerance limits", Annals of
Mathematical Statistics 12 (1941), one-sided and without assumptions on the distribution.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import UsageError, import_failure

try:
    from scipy.stats import binom
except ImportError as error:
    raise import_failure(error, "scipy", "calibrate", "calibration") from None

Scores = NDArray[np.float64]
# Of a rate so low, 3e12 images would promise something; from about 1e-16 on, sums of float64 numbers lose it.
LEAST_SHARE = 1e-12


@lru_cache(maxsize=1024)
def most_beyond(images: int, rate: float, confidence: float) -> int | None:
    """The largest k with P(Bin(images, rate) <= k) <= 1 - confidence; None where not even 0 will do.

    Raises UsageError for a rate or a confidence that check_share refuses.
    """
    check_share("rate", rate)
    check_share("confidence", confidence)
    risk = 1 - confidence
    k = int(binom.ppf(risk, images, rate)) + 1  # ppf is the smallest k with at least that chance, up to rounding
    while k >= 0 and chance_of_excess(images, rate, k) > risk:
        k -= 1
    return k if k >= 0 else None


def chance_of_excess(images: int, rate: float, most: int) -> float:
    """P(Bin(images, rate) <= most): the chance that the threshold lets more than `rate` through, scores untied."""
    return float(binom.cdf(most, images, rate))


def lowest_rate(images: int, confidence: float) -> float:
    """The lowest rate that so many images can promise, with none beyond: (1 - rate)^images = 1 - confidence."""
    return 1.0 if images < 1 else -math.expm1(math.log1p(-confidence) / images)


def fewest_images(rate: float, confidence: float) -> int:
    """The fewest images that can promise a rate, with none beyond."""
    count = max(1, math.ceil(math.log1p(-confidence) / math.log1p(-rate)) - 1)
    while most_beyond(count, rate, confidence) is None:
        count += 1
    return count


def fake_above(real_scores: Scores, most: int) -> float:
    """The score above which, strictly, an image is called fake: the (most+1)-th largest of the real images' (n,)."""
    return float(np.sort(real_scores)[len(real_scores) - 1 - most])


def real_below(fake_scores: Scores, most: int) -> float:
    """The score below which, strictly, an image is called real: the (most+1)-th smallest of the fakes' (n,)."""
    return float(np.sort(fake_scores)[most])


def uncrossed(fake_above: float, real_below: float) -> tuple[float, float]:
    """Both thresholds so that no score is beyond both: where they cross, each moves to the midpoint in logits.

    Each moves away from the scores that it decides, so that what was promised of it still holds.
    """
    if real_below <= fake_above:
        return fake_above, real_below
    middle = (_logit(fake_above) + _logit(real_below)) / 2  # of 0 and 1: NaN
    between = 0.5 if math.isnan(middle) else 1 / (1 + math.exp(-middle)) if middle > -700 else 0.0
    between = min(max(between, fake_above), real_below)  # rounding may not carry it past either
    return between, between


def check_share(name: str, value: float) -> float:
    """A share between 0 and 1, LEAST_SHARE away from both. Raises UsageError."""
    if not LEAST_SHARE <= value <= 1 - LEAST_SHARE:
        raise UsageError(f"{name}: got {value}; expected a share between 0 and 1, such as 0.01")
    return value


def _logit(probability: float) -> float:
    if probability <= 0:
        return -math.inf
    return math.inf if probability >= 1 else math.log(probability) - math.log1p(-probability)
