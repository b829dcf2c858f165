"""The one place where a score becomes a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from glass_rt.decision.calibration import Calibration, Conditions, Guarantee, Thresholds
from glass_rt.decision.tiers import InputFacts, tier_of

Label = Literal["fake", "real", "unsure", "none"]
Basis = Literal["calibrated", "threshold", "untrained"]
LABELS: tuple[Label, ...] = ("fake", "real", "unsure", "none")
UNTRAINED = "the weights are untrained: the score says nothing"
THRESHOLD_CHOSEN = "the threshold was chosen by the caller"
NO_CALIBRATION = "the bundle is not calibrated"
BETWEEN = "the score lies between the thresholds"
NEVER_REAL = "not above the threshold of fake, and fakes of this kind were too few to find one of real"
NEVER_FAKE = "not below the threshold of real, and real images of this kind were too few to find one of fake"
SEED_CHOSEN = "the seed was chosen: the guarantee holds for seeds that follow from the images"


@dataclass(frozen=True)
class DecisionRule:
    """By what the images of one run are labelled: the bundle's part and the run's, made once for many images.

    `threshold`: P(fake), 0..1, from which on an image is `fake` where nothing better is known; `threshold_chosen`: the
    caller has set it, which overrides the calibration. `seed_chosen`: seeds do not follow from the images.
    `conditions`: how this run judges.
    """

    trained: bool
    threshold: float
    threshold_chosen: bool
    seed_chosen: bool
    calibration: Calibration | None
    conditions: Conditions


@dataclass(frozen=True)
class Decision:
    """What a score means, and on what ground.

    `label`: `none` for untrained weights, whose numbers are noise. `id`: of the calibration that was applied or did not
    apply. `tier`: of the input. `reason`: why there is no label, or no guarantee; None for a calibrated `fake` or
    `real`. `thresholds`, `guarantee`: those of the tier; None where they were not applied. `threshold`: of basis
    `threshold`: `fake` from it on. `probability`: calibrated, P(AI-generated) at the share `prior` of such images.
    """

    label: Label
    basis: Basis
    id: str | None = None
    tier: str | None = None
    reason: str | None = None
    threshold: float | None = None
    thresholds: Thresholds | None = None
    guarantee: Guarantee | None = None
    probability: float | None = None
    prior: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The `decision` object of a verdict: every field but the label and the probability, which stand beside it."""
        return {
            "basis": self.basis,
            "id": self.id,
            "tier": self.tier,
            "reason": self.reason,
            "threshold": self.threshold,
            "thresholds": None if self.thresholds is None else dict(vars(self.thresholds)),
            "guarantee": None if self.guarantee is None else dict(vars(self.guarantee)),
            "prior": self.prior,
        }


def decide(score: float, facts: InputFacts, rule: DecisionRule) -> Decision:
    """The decision about one image with this raw score (`probability_fake`, a float32 held as a float)."""
    if not rule.trained:
        return Decision("none", "untrained", reason=UNTRAINED)
    calibration = rule.calibration
    if rule.threshold_chosen or calibration is None:
        reason = THRESHOLD_CHOSEN if rule.threshold_chosen else NO_CALIBRATION
        label: Label = "fake" if score >= rule.threshold else "real"
        return Decision(label, "threshold", reason=reason, threshold=rule.threshold)
    if rule.conditions != calibration.conditions:
        return Decision("unsure", "calibrated", calibration.id, reason=other_conditions(calibration, rule.conditions))
    return _by_tier(score, facts, calibration, rule.seed_chosen)


def _by_tier(score: float, facts: InputFacts, calibration: Calibration, seed_chosen: bool) -> Decision:
    tier = tier_of(facts, calibration.tiers)
    curve = calibration.probability
    label = tier.thresholds.label(score) if tier.thresholds is not None else None
    reason = tier.reason
    if tier.thresholds is not None:
        reason = _undecided(tier.thresholds) if label is None else SEED_CHOSEN if seed_chosen else None
    return Decision(
        label=label or "unsure",
        basis="calibrated",
        id=calibration.id,
        tier=tier.name,
        reason=reason,
        thresholds=tier.thresholds,
        guarantee=None if seed_chosen else tier.guarantee,
        probability=None if curve is None else curve.probability(score),
        prior=None if curve is None else curve.prior,
    )


def _undecided(thresholds: Thresholds) -> str:
    """Why a score that has a tier with thresholds gets no label."""
    if thresholds.real_below is None:
        return NEVER_REAL
    return NEVER_FAKE if thresholds.fake_above is None else BETWEEN


def other_conditions(calibration: Calibration, conditions: Conditions) -> str:
    """Why a calibration does not apply to images that are judged under other conditions."""
    return f"calibrated for {calibration.conditions.in_words()}; this is {conditions.in_words()}"
