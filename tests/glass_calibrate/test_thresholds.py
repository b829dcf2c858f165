"""Thresholds with their guarantee, tier by tier, and refusals that say what is possible."""

import math
from dataclasses import replace

import numpy as np
import pytest
from glass_calibrate.thresholds import Targets, TierScores, fit_tier, fit_tiers, missing_sides
from glass_calibrate.tiers import DEFAULT_TIERS, ONE_TIER, tier_table

from glass_rt.decision.tiers import InputFacts, NamedRule, TierRule, tier_of
from glass_rt.errors import CalibrationInvalid, UsageError

TARGETS = Targets(fpr=0.01, fnr=0.05, confidence=0.95)
ALL = NamedRule("every image", TierRule())
EMPTY = np.array([], np.float64)


def scores(real: int, fake: int, seed: int = 1) -> TierScores:
    """Overlapping scores, rounded as the engine's are."""
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn = (generator.normal(mean, 1.2, count) for mean, count in ((-1, real), (1, fake)))
    return TierScores(*((1 / (1 + np.exp(-z))).astype(np.float32).astype(np.float64) for z in drawn))


@pytest.mark.parametrize(("real", "fake", "above", "below"), [(299, 59, 0, 0), (1000, 300, 4, 8), (5000, 1000, 38, 38)])
def test_a_tier_has_exactly_so_many_beyond_its_thresholds(real: int, fake: int, above: int, below: int) -> None:
    found = scores(real, fake)
    tier = fit_tier(ALL, found, TARGETS, 0.95)
    assert tier.thresholds is not None
    assert tier.guarantee is not None
    assert (tier.guarantee.images, tier.guarantee.above) == (real, above)
    assert (tier.guarantee.fakes, tier.guarantee.below) == (fake, below)
    assert [tier.thresholds.label(score) for score in found.real].count("fake") == above
    assert [tier.thresholds.label(score) for score in found.fake].count("real") == below


def test_a_score_on_the_threshold_is_unsure() -> None:
    tied = TierScores(np.full(299, 0.75), np.full(59, 0.75))
    thresholds = fit_tier(ALL, tied, TARGETS, 0.95).thresholds
    assert thresholds is not None
    assert (thresholds.fake_above, thresholds.real_below, thresholds.label(0.75)) == (0.75, 0.75, None)


def test_classes_that_separate_are_split_between_them() -> None:
    found = TierScores(np.linspace(0.01, 0.2, 299), np.linspace(0.8, 0.99, 59))
    thresholds = fit_tier(ALL, found, TARGETS, 0.95).thresholds
    assert thresholds is not None
    assert thresholds.fake_above == thresholds.real_below == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("real", "fake", "sides", "missing"),
    [
        (299, 59, ("fpr", "fnr"), ()),
        (298, 59, ("fnr",), ("never `fake`: 298 real; 299 are needed for fpr 0.01 at 95 % confidence",)),
        (299, 58, ("fpr",), ("never `real`: 58 fake; 59 are needed for fnr 0.05 at 95 % confidence",)),
    ],
)
def test_each_side_stands_alone(real: int, fake: int, sides: tuple[str, ...], missing: tuple[str, ...]) -> None:
    found = scores(real, fake)
    tier = fit_tier(ALL, found, TARGETS, 0.95)
    assert tier.guarantee is not None
    assert tuple(side for side in ("fpr", "fnr") if getattr(tier.guarantee, side) is not None) == sides
    assert missing_sides(tier, found, TARGETS) == missing


@pytest.mark.parametrize(
    ("real", "fake", "reason"), [(298, 58, "298 real; 299 are needed"), (0, 0, "no image of this kind")]
)
def test_a_tier_of_too_few_images_is_unsure_and_says_why(real: int, fake: int, reason: str) -> None:
    tier = fit_tier(ALL, scores(real, fake), TARGETS, 0.95)
    assert tier.thresholds is None
    assert reason in (tier.reason or "")
    assert missing_sides(tier, scores(real, fake), TARGETS) == (f"always `unsure`: {tier.reason}",)


TWO = (NamedRule("small", TierRule(longer_below=100)), NamedRule("the rest", TierRule()))


def test_jointly_each_tier_has_a_share_of_the_risk() -> None:
    found = {"small": scores(2000, 200), "the rest": scores(5000, 500)}
    joint = fit_tiers(TWO, found, Targets(0.01, 0.05, 0.95, joint=True))
    alone = fit_tiers(TWO, found, TARGETS)
    for one, other in zip(joint, alone, strict=True):
        assert one.guarantee is not None
        assert other.guarantee is not None
        assert (one.guarantee.confidence, other.guarantee.confidence) == pytest.approx((0.975, 0.95))
        assert (one.guarantee.above or 0) < (other.guarantee.above or 0)


def test_a_tier_without_images_takes_no_share_of_the_risk() -> None:
    found = {"small": TierScores(EMPTY, EMPTY), "the rest": scores(300, 60)}
    small, rest = fit_tiers(TWO, found, Targets(0.01, 0.05, 0.95, joint=True))
    assert small.guarantee is None
    assert rest.guarantee is not None
    assert rest.guarantee.confidence == 0.95


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            {"every image": scores(21, 28)},
            "--fpr 0.01 at 95 % confidence needs 299 real images in a tier; there are 21; 21 allow --fpr 0.133 at the",
        ),
        (  # both classes in one message
            {"every image": scores(21, 28)},
            "lowest. --fnr 0.05 at 95 % confidence needs 59 fake images in a tier; there are 28; 28 allow --fnr 0.1015 at "
            "the lowest. Label more real and fake images, or ask for higher rates or a lower confidence",
        ),
        (
            {"every image": scores(300, 28)},
            "--fnr 0.05 at 95 % confidence needs 59 fake images in a tier; there are 28",
        ),
        (
            {"small": scores(200, 60), "the rest": scores(150, 60)},
            "there are 350 (200 small, 150 the rest); 200 allow --fpr 0.01487 at the lowest",
        ),
        ({"small": scores(200, 60), "the rest": scores(150, 60)}, ", or --tiers off"),
        ({"every image": TierScores(EMPTY, scores(0, 99).fake)}, "needs 299 real images in a tier; there are 0. Label"),
    ],
)
def test_too_few_images_are_refused_with_what_they_allow(found: dict[str, TierScores], expected: str) -> None:
    table = TWO if "small" in found else ONE_TIER
    with pytest.raises(CalibrationInvalid) as refusal:
        fit_tiers(table, found, TARGETS)
    assert expected in str(refusal.value)


def test_the_rate_that_a_refusal_names_is_possible() -> None:
    assert fit_tiers(ONE_TIER, {"every image": scores(21, 28)}, Targets(0.133, 0.11, 0.95))[0].thresholds is not None
    with pytest.raises(CalibrationInvalid, match="fpr"):
        fit_tiers(ONE_TIER, {"every image": scores(21, 28)}, Targets(0.132, 0.11, 0.95))


@pytest.mark.parametrize(("name", "value"), [("fpr", 0.0), ("fpr", 1.0), ("fnr", math.nan), ("confidence", 1.0)])
def test_shares_are_checked(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name}: got"):
        replace(TARGETS, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "tier"),
    [
        (InputFacts(320, 200, "jpeg", 30, False), "thumbnail"),
        (InputFacts(321, 200, "jpeg", 30, False), "too small to be stratified"),
        (InputFacts(4000, 3000, "jpeg", 69, True), "JPEG of low quality"),
        (InputFacts(4000, 3000, "jpeg", 70, True), "the rest"),
        (InputFacts(4000, 3000, "jpeg", None, True), "the rest"),
        (InputFacts(4000, 3000, "array", None, True), "without a container"),
        (InputFacts(4000, 3000, "png", None, True), "the rest"),
    ],
)
def test_the_first_tier_that_takes_an_image_counts(facts: InputFacts, tier: str) -> None:
    assert tier_of(facts, DEFAULT_TIERS).name == tier


def test_tables_of_tiers() -> None:
    assert tier_table(tiers=False, stratified=True) == ONE_TIER
    assert tier_table(tiers=True, stratified=True) == DEFAULT_TIERS
    # Where crops are not drawn in cells, none are too few for them.
    assert [tier.rule.stratified for tier in tier_table(tiers=True, stratified=False)] == [None] * 4
