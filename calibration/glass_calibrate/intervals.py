"""Exact intervals of rates, alone and of several groups together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glass_rt.errors import import_failure

try:
    from scipy.stats import beta
except ImportError as error:
    raise import_failure(error, "scipy", "calibrate", "the interval of a rate") from None


@dataclass(frozen=True)
class Rate:
    """`count` of `images`, and that as a share with the bounds of its interval.

    Of no image there is no share: its `value` is None, and 0..1 is all that is known.
    """

    count: int
    images: int
    value: float | None
    low: float
    high: float


@dataclass(frozen=True)
class GroupRate:
    """The rate of one group of images."""

    group: str
    rate: Rate


def exact_rate(count: int, images: int, confidence: float = 0.95) -> Rate:
    """A share with its two-sided exact interval, which covers the true share at least with `confidence`.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26 (1934). The images count as independent.
    """
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, images - count + 1))
    high = 1.0 if count == images else float(beta.ppf(1 - tail, count + 1, images - count))
    return Rate(count, images, count / images if images else None, low, high)


def group_rates(counts: Mapping[str, tuple[int, int]], confidence: float = 0.95) -> tuple[GroupRate, ...]:
    """The rates of groups, (count, images) by name, the worst first: all intervals hold together with `confidence`.

    Bonferroni's correction: each interval of G groups has the confidence 1 - (1 - confidence) / G.
    """
    each = 1 - (1 - confidence) / max(1, len(counts))
    rates = [GroupRate(name, exact_rate(count, images, each)) for name, (count, images) in counts.items()]
    return tuple(sorted(rates, key=lambda found: (-(found.rate.value or 0), -found.rate.low, found.group)))
