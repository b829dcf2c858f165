"""From a score to a label: one row per ground that a decision can have."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glass_rt.decision.calibration import Calibration, Conditions, Guarantee, Thresholds, Tier
from glass_rt.decision.decide import DecisionRule, decide
from glass_rt.decision.probability import ProbabilityCurve
from glass_rt.decision.tiers import InputFacts, TierRule

PHOTO, THUMBNAIL = InputFacts(900, 800, "jpeg", 90, stratified=True), InputFacts(90, 80, "jpeg", 90, stratified=False)
CONDITIONS = Conditions("fp32", 10, "stratified", 1, 1)
GUARANTEE = Guarantee(0.95, fpr=0.01, images=300, above=0, fnr=0.05, fakes=300, below=9)
CALIBRATION = Calibration.new(
    "0" * 64,
    {"global.onnx": "1" * 64},
    CONDITIONS,
    (
        Tier("thumbnail", TierRule(longer_below=256), reason="12 real images; 299 are needed"),
        Tier("the rest", TierRule(), Thresholds(0.75, 0.25), GUARANTEE),
    ),
    ProbabilityCurve("logistic", 0.5, temperature=1.0, bias=0.0),
)
CALIBRATED = DecisionRule(True, 0.5, False, False, CALIBRATION, CONDITIONS)
OTHER: dict[str, Any] = {"precision": "fp16", "crops": 4, "sampling": "tiles", "draws": 2, "preprocessing": 2}
ABOVE, BELOW = float(np.nextafter(0.75, 1)), float(np.nextafter(0.25, 0))

CASES = [
    ("untrained", replace(CALIBRATED, trained=False, calibration=None), PHOTO, 0.9, "none", "untrained"),
    ("untrained, threshold chosen", replace(CALIBRATED, trained=False, threshold_chosen=True), PHOTO, 0.9, "none", "untrained"),
    ("not calibrated", replace(CALIBRATED, calibration=None), PHOTO, 0.5, "fake", "threshold"),
    ("not calibrated, below", replace(CALIBRATED, calibration=None), PHOTO, 0.4999, "real", "threshold"),
    ("threshold chosen", replace(CALIBRATED, threshold=0.9, threshold_chosen=True), PHOTO, 0.8, "real", "threshold"),
    ("at fake_above", CALIBRATED, PHOTO, 0.75, "unsure", "calibrated"),  # strictly above
    ("above it", CALIBRATED, PHOTO, ABOVE, "fake", "calibrated"),
    ("at real_below", CALIBRATED, PHOTO, 0.25, "unsure", "calibrated"),  # strictly below
    ("below it", CALIBRATED, PHOTO, BELOW, "real", "calibrated"),
    ("a tier without thresholds", CALIBRATED, THUMBNAIL, 0.99, "unsure", "calibrated"),
    ("the seed was chosen", replace(CALIBRATED, seed_chosen=True), PHOTO, 0.9, "fake", "calibrated"),
    *(
        (f"other {name}", replace(CALIBRATED, conditions=replace(CONDITIONS, **{name: value})), PHOTO, 0.99, "unsure", "calibrated")
        for name, value in OTHER.items()
    ),
    ("crops auto", replace(CALIBRATED, conditions=replace(CONDITIONS, crops=None)), PHOTO, 0.99, "unsure", "calibrated"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rule", "facts", "score", "label", "basis"), CASES, ids=[case[0] for case in CASES])
def test_a_score_becomes_a_label(
    name: str, rule: DecisionRule, facts: InputFacts, score: float, label: str, basis: str
) -> None:
    found = decide(score, facts, rule)
    assert (found.label, found.basis) == (label, basis)
    assert found.id == (CALIBRATION.id if basis == "calibrated" else None)
    # A label without a reason is one with a guarantee, and the other way round.
    assert (found.reason is None) == (label in ("fake", "real") and basis == "calibrated" and not rule.seed_chosen)
    if found.reason is None:
        assert (found.tier, found.thresholds, found.guarantee) == ("the rest", Thresholds(0.75, 0.25), GUARANTEE)


def test_reasons_say_what_differs() -> None:
    other = decide(0.9, PHOTO, replace(CALIBRATED, conditions=replace(CONDITIONS, crops=4)))
    assert other.reason is not None
    assert other.reason.startswith("calibrated for fp32, 10 crops")
    assert "4 crops" in other.reason
    assert other.probability is None  # the curve is that of other scores
    assert decide(0.9, THUMBNAIL, CALIBRATED).reason == "12 real images; 299 are needed"
    assert decide(0.9, PHOTO, replace(CALIBRATED, seed_chosen=True)).guarantee is None


@pytest.mark.parametrize(
    ("thresholds", "guarantee", "labels", "reason"),
    [
        (
            Thresholds(0.75, None),
            Guarantee(0.95, fpr=0.01, images=300, above=0),
            ["unsure", "unsure", "fake"],
            "not above the threshold of fake, and fakes of this kind were too few",
        ),
        (
            Thresholds(None, 0.75),
            Guarantee(0.95, fnr=0.01, fakes=300, below=0),
            ["real", "unsure", "unsure"],
            "not below the threshold of real, and real images of this kind were too few",
        ),
        (Thresholds(0.75, 0.75), GUARANTEE, ["real", "unsure", "fake"], "between the thresholds"),
    ],
)
def test_one_side_alone_never_gives_the_other_label(
    thresholds: Thresholds, guarantee: Guarantee, labels: list[str], reason: str
) -> None:
    tiers = (Tier("all", TierRule(), thresholds, guarantee),)
    rule = replace(CALIBRATED, calibration=Calibration.new("0" * 64, {}, CONDITIONS, tiers))
    found = [decide(score, PHOTO, rule) for score in (0.0, 0.75, 1.0)]
    assert [one.label for one in found] == labels
    assert all(reason in (one.reason or "") for one in found if one.label == "unsure")


def test_a_float32_score_is_compared_as_it_stands_in_a_verdict() -> None:
    """A threshold that is the score of a calibration image must not label that image, whatever its last bit is."""
    generator = np.random.default_rng(606)
    for score in generator.random(200, np.float32):
        kept = Thresholds(float(score), float(score))
        assert kept.label(float(score)) is None
        assert kept.label(float(np.nextafter(score, np.float32(2)))) == "fake"
        assert kept.label(float(np.nextafter(score, np.float32(-1)))) == "real"
