"""A decision in words, the same on screens, in pictures and in notices."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from glass_rt.decision.calibration import Guarantee, Thresholds
from glass_rt.decision.decide import NO_CALIBRATION, SEED_CHOSEN, Decision
from glass_rt.results.verdict import UNTRAINED

NOT_CALIBRATED = (
    "NOT CALIBRATED: how often this label is wrong is unknown; to measure it: glass-rt calibrate LABELLED --engine DIR"
)


def notices_of(decision: Decision) -> tuple[str, ...]:
    """The notices that a verdict with this decision carries before all others."""
    if decision.basis == "untrained":
        return (UNTRAINED,)
    if decision.reason == NO_CALIBRATION:
        return (NOT_CALIBRATED,)
    void = decision.thresholds is not None and decision.guarantee is None  # of `unsure` too, whose reason is another
    return (SEED_CHOSEN,) if void else ()


def in_words(decision: Decision) -> tuple[str, ...]:
    """One to three lines: by what the label was given, what is guaranteed or why nothing is, and the probability."""
    if decision.basis == "untrained":
        return (f"no label: {decision.reason}",)
    if decision.basis == "threshold":
        return (f"fake from {decision.threshold:g} on; no guarantee: {decision.reason}",)
    tier = "" if decision.tier is None else f", tier {decision.tier}"
    thresholds = "no thresholds" if decision.thresholds is None else thresholds_in_words(decision.thresholds)
    lines = [f"{thresholds} (calibration {decision.id}{tier})"]
    if decision.reason is not None:
        lines.append(decision.reason)
    if decision.guarantee is not None:
        lines.append(guarantee_in_words(decision.guarantee))
    if decision.probability is not None:
        lines.append(f"calibrated P(AI-generated) = {decision.probability:.4f} where {decision.prior:g} of images are")
    return tuple(lines)


def guarantee_in_words(guarantee: Guarantee) -> str:
    """Such as `at most 0.01 of real images called fake (here 2 of 900); confidence 0.95`."""
    sides = []
    if guarantee.fpr is not None:
        sides.append(
            f"{at_most(guarantee.fpr):g} of real images called fake (here {guarantee.above} of {guarantee.images})"
        )
    if guarantee.fnr is not None:
        sides.append(f"{at_most(guarantee.fnr):g} of fakes called real (here {guarantee.below} of {guarantee.fakes})")
    return f"at most {', '.join(sides)}; confidence {at_least(guarantee.confidence):g}"


def thresholds_in_words(thresholds: Thresholds) -> str:
    """Such as `fake above 0.8, real below 0.2, else unsure`."""
    sides = []
    if thresholds.fake_above is not None:
        sides.append(f"fake above {score_text(thresholds.fake_above)}")
    if thresholds.real_below is not None:
        sides.append(f"real below {score_text(thresholds.real_below)}")
    return f"{', '.join(sides)}, else unsure"


def at_most(rate: float, digits: int = 3) -> Decimal:
    """A rate rounded up: words promise no less than what holds."""
    return Context(prec=digits, rounding=ROUND_CEILING).create_decimal(repr(rate))


def at_least(confidence: float) -> Decimal:
    """A confidence in six digits, rounded down: none short of 1 reads as certainty."""
    return Context(prec=6, rounding=ROUND_FLOOR).create_decimal(repr(confidence))


def score_text(score: float) -> str:
    """A score in four digits, and in more where it would read as the 1 that it is not."""
    texts = (f"{score:.{digits}g}" for digits in range(4, 18))
    return next(text for text in texts if float(text) < 1 or score >= 1)
