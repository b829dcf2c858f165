"""Thresholds with their guarantee, tier by tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from glass_calibrate.guarantee import (
    Scores,
    check_share,
    fake_above,
    fewest_images,
    lowest_rate,
    most_beyond,
    real_below,
    uncrossed,
)
from glass_rt.decision.calibration import Guarantee, Thresholds, Tier
from glass_rt.decision.tiers import NamedRule
from glass_rt.errors import CalibrationInvalid
from glass_rt.results.decision_text import at_least, at_most


@dataclass(frozen=True)
class Targets:
    """What is asked for: at most `fpr` of real images labelled fake, at most `fnr` of fakes labelled real.

    Each at `confidence`, tier by tier, or with `joint` for all tiers together. `fnr` None: no image is called real.
    """

    fpr: float
    fnr: float | None
    confidence: float
    joint: bool = False

    def __post_init__(self) -> None:
        for name in ("fpr", "fnr", "confidence"):
            if (value := getattr(self, name)) is not None:
                check_share(name, value)

    def confidence_of_each(self, tiers: int) -> float:
        """The confidence of each of so many tiers. Together: 1 - (1 - confidence) / tiers."""
        return 1 - (1 - self.confidence) / max(1, tiers) if self.joint else self.confidence


@dataclass(frozen=True, eq=False)
class TierScores:
    """The scores of one tier: `real` and `fake` float64, (n,) and (m,)."""

    real: Scores
    fake: Scores


def fit_tiers(table: Sequence[NamedRule], scores: Mapping[str, TierScores], targets: Targets) -> tuple[Tier, ...]:
    """Every tier of the table, in its order, from the scores by the tiers' names.

    Raises CalibrationInvalid where no tier has enough images for `fpr`, or none for `fnr`, with what so many allow.
    """
    seen = sum(bool(len(found.real) or len(found.fake)) for found in scores.values())
    confidence = targets.confidence_of_each(seen)
    tiers = tuple(fit_tier(rule, scores[rule.name], targets, confidence) for rule in table)
    guarantees = [tier.guarantee for tier in tiers if tier.guarantee is not None]
    short = []
    if not any(found.fpr is not None for found in guarantees):
        short.append(_Shortage("fpr", targets.fpr, confidence, "real", _sizes(scores, "real")))
    if targets.fnr is not None and not any(found.fnr is not None for found in guarantees):
        short.append(_Shortage("fnr", targets.fnr, confidence, "fake", _sizes(scores, "fake")))
    if short:
        raise CalibrationInvalid(_refusal(short))
    return tiers


def fit_tier(rule: NamedRule, scores: TierScores, targets: Targets, confidence: float) -> Tier:
    """One tier: a side for which it has too few images has no threshold, and a tier without both says the reason."""
    beyond = most_beyond(len(scores.real), targets.fpr, confidence)
    short = None if targets.fnr is None else most_beyond(len(scores.fake), targets.fnr, confidence)
    if beyond is None and short is None:
        return Tier(rule.name, rule.rule, reason=_reason(scores, targets, confidence))
    above = None if beyond is None else fake_above(scores.real, beyond)
    below = None if short is None else real_below(scores.fake, short)
    if above is not None and below is not None:
        above, below = uncrossed(above, below)
    guarantee = Guarantee(confidence, **_side_of_real(scores, targets, above), **_side_of_fake(scores, targets, below))
    return Tier(rule.name, rule.rule, Thresholds(above, below), guarantee)


def _side_of_real(scores: TierScores, targets: Targets, above: float | None) -> dict[str, Any]:
    if above is None:
        return {}
    return {"fpr": targets.fpr, "images": len(scores.real), "above": int((scores.real > above).sum())}


def _side_of_fake(scores: TierScores, targets: Targets, below: float | None) -> dict[str, Any]:
    if below is None:
        return {}
    return {"fnr": targets.fnr, "fakes": len(scores.fake), "below": int((scores.fake < below).sum())}


def missing_sides(tier: Tier, scores: TierScores, targets: Targets) -> tuple[str, ...]:
    """What a tier cannot say, each with the reason: for a report."""
    if tier.guarantee is None:
        return (f"always `unsure`: {tier.reason}",)
    confidence = tier.guarantee.confidence
    found = []
    if tier.guarantee.fpr is None:
        found.append("never `fake`: " + _too_few("real", len(scores.real), "fpr", targets.fpr, confidence))
    if targets.fnr is not None and tier.guarantee.fnr is None:
        found.append("never `real`: " + _too_few("fake", len(scores.fake), "fnr", targets.fnr, confidence))
    return tuple(found)


def _reason(scores: TierScores, targets: Targets, confidence: float) -> str:
    if not len(scores.real) and not len(scores.fake):
        return "no image of this kind was there to calibrate with"
    sides = [_too_few("real", len(scores.real), "fpr", targets.fpr, confidence)]
    if targets.fnr is not None:
        sides.append(_too_few("fake", len(scores.fake), "fnr", targets.fnr, confidence))
    return "too few images of this kind to calibrate with: " + "; ".join(sides)


def _too_few(kind: str, count: int, name: str, rate: float, confidence: float) -> str:
    needed = fewest_images(rate, confidence)
    return f"{count} {kind}; {needed} are needed for {name} {rate:g} at {percent(at_least(confidence))} confidence"


def percent(share: Decimal) -> str:
    """A rounded share in per cent, such as `1 %` or `99.1666 %`."""
    return f"{(100 * share).normalize():f} %"


def _sizes(scores: Mapping[str, TierScores], side: str) -> dict[str, int]:
    return {name: len(getattr(found, side)) for name, found in scores.items()}


@dataclass(frozen=True)
class _Shortage:
    """A rate that no tier has enough images for: option `name`, class `kind`, images of the class by tier."""

    name: str
    rate: float
    confidence: float
    kind: str
    sizes: Mapping[str, int]

    @property
    def enough_together(self) -> bool:
        """Whether all tiers together have enough images."""
        return len(self.sizes) > 1 and sum(self.sizes.values()) >= fewest_images(self.rate, self.confidence)

    def in_words(self) -> str:
        """How many images are needed, how many there are, and what so many allow."""
        filled = [f"{size} {tier}" for tier, size in self.sizes.items() if size]
        by_tier = f" ({', '.join(filled)})" if len(filled) > 1 else ""
        needed, total = fewest_images(self.rate, self.confidence), sum(self.sizes.values())
        words = f"--{self.name} {self.rate:g} at {percent(at_least(self.confidence))} confidence needs {needed} "
        words += f"{self.kind} images in a tier; there are {total}{by_tier}"
        if most := max(self.sizes.values()):
            lowest = at_most(lowest_rate(most, self.confidence), digits=4)
            words += f"; {most} allow --{self.name} {lowest.normalize():f} at the lowest"
        return words


def _refusal(shortages: Sequence[_Shortage]) -> str:
    kinds = " and ".join(one.kind for one in shortages)
    together = ", or --tiers off" if all(one.enough_together for one in shortages) else ""
    rates = "a higher rate" if len(shortages) == 1 else "higher rates"
    return (
        f"{'. '.join(one.in_words() for one in shortages)}. Label more {kinds} images, or ask for {rates} or a lower "
        f"confidence{together}"
    )
