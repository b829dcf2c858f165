"""The guarantee seen from both sides on known scores, and mistakes that must not pass. Small; `benchmarks/decision.py`
is the whole of it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from glass_bench.decision.known_scores import Floats, KnownScores
from glass_bench.decision.simulation import (
    SIDES,
    Excess,
    Rule,
    Side,
    Trial,
    calibrated_rule,
    coverage,
    excess,
    excess_by_tier,
    largest_chance,
)
from glass_calibrate.guarantee import fake_above, most_beyond, real_below
from glass_calibrate.thresholds import Targets

from glass_rt.decision.calibration import Thresholds

TARGETS = Targets(fpr=0.01, fnr=0.01, confidence=0.95)
REAL, FAKE = KnownScores(-1.5), KnownScores(1.5)
TIED = KnownScores(-1.5, levels=20), KnownScores(1.5, levels=20)
SETS = 5000


def trial(images: int, real: KnownScores = REAL, fake: KnownScores = FAKE, sets: int = SETS) -> Trial:
    return Trial(real, fake, images, TARGETS, sets)


@cache
def seen(images: int) -> dict[Side, Excess]:
    return excess(trial(images))


@pytest.mark.parametrize(("images", "most", "chance"), [(300, 0, 0.049), (1000, 4, 0.029), (5000, 38, 0.047)])
def test_the_binomial_says_how_often_a_true_rate_is_exceeded(images: int, most: int, chance: float) -> None:
    found = largest_chance(images, 0.01, 0.05)
    assert found[0] == most
    assert found[1] == pytest.approx(chance, abs=5e-4)


@pytest.mark.parametrize("images", [300, 1000])
@pytest.mark.parametrize("side", SIDES)
def test_a_true_rate_is_exceeded_exactly_so_often(images: int, side: Side) -> None:
    assert seen(images)[side].exact, seen(images)[side]


@pytest.mark.parametrize("side", SIDES)
def test_with_ties_it_is_never_exceeded_more_often(side: Side) -> None:
    assert excess(trial(1000, *TIED, sets=1000))[side].kept


@pytest.mark.parametrize("joint", [False, True])
def test_the_guarantee_holds_for_each_tier_and_jointly_on_request(joint: bool) -> None:
    targets = Targets(fpr=0.05, fnr=0.05, confidence=0.9, joint=joint)
    trials = {
        name: Trial(KnownScores(mean), KnownScores(mean + 1), images, targets, sets=2000)
        for name, mean, images in (("thumbnails", 1.0, 80), ("small", 0.0, 150), ("the rest", -2.0, 300))
    }
    found = excess_by_tier(trials, targets, seed=606)
    assert all(one.exact for sides in found.each.values() for one in sides.values()), found
    independent = 1 - math.prod(1 - sides["fpr"].expected for sides in found.each.values())
    assert found.any_fpr == pytest.approx(independent, abs=3 * math.sqrt(independent / 2000))
    assert (independent <= 0.1) is joint


# Mistakes, which the two sides must tell from the rule.


def _beyond(real: Floats, fake: Floats, above: int, below: int) -> Thresholds:
    return Thresholds(fake_above(real, above), real_below(fake, below))


def share_of_the_images(real: Floats, fake: Floats, targets: Targets) -> Thresholds:
    most = int(len(real) * targets.fpr)
    return _beyond(real, fake, most, most)


def one_too_many(real: Floats, fake: Floats, targets: Targets) -> Thresholds:
    most = most_beyond(len(real), targets.fpr, targets.confidence)
    assert most is not None
    return _beyond(real, fake, most + 1, most + 1)


def the_threshold_itself_too(real: Floats, fake: Floats, targets: Targets) -> Thresholds:
    right = calibrated_rule(real, fake, targets)
    assert right.fake_above is not None
    assert right.real_below is not None
    return Thresholds(float(np.nextafter(right.fake_above, -1)), float(np.nextafter(right.real_below, 2)))


def tiers_after_the_scores(real: Floats, fake: Floats, targets: Targets) -> Thresholds:
    """Moves the border of a tier, which has nothing to do with the scores, to where the rest decides most."""
    width = np.random.Generator(np.random.PCG64(int(real[0] * 2**32))).random(len(real))
    rests = [real[width > cut] for cut in np.linspace(0, 0.6, 7)]
    lowest = min((calibrated_rule(rest, fake, targets) for rest in rests), key=lambda one: one.fake_above or 0)
    return replace(lowest, real_below=calibrated_rule(real, fake, targets).real_below)


def never_fake(real: Floats, fake: Floats, targets: Targets) -> Thresholds:
    return Thresholds(1.0, calibrated_rule(real, fake, targets).real_below)


@pytest.mark.parametrize(
    ("rule", "images", "scores", "too_often"),
    [
        (share_of_the_images, 1000, (REAL, FAKE), True),
        (one_too_many, 300, (REAL, FAKE), True),
        (the_threshold_itself_too, 1000, TIED, True),
        (tiers_after_the_scores, 1000, (REAL, FAKE), True),
        (never_fake, 1000, (REAL, FAKE), False),  # it promises nothing falsely, and is of no use
    ],
)
def test_a_wrong_rule_does_not_pass(
    rule: Rule, images: int, scores: tuple[KnownScores, KnownScores], too_often: bool
) -> None:
    found = excess(trial(images, *scores, sets=1000), rule)["fpr"]
    assert not found.exact, found
    assert found.kept is not too_often


def test_coverage_loses_what_the_bound_explains() -> None:
    found = coverage(trial(1000, KnownScores(-1), KnownScores(1), sets=500))
    assert found.explained is not None
    assert found.simulated == pytest.approx(found.explained, abs=3 * found.standard_error)
    assert found.simulated < found.oracle


def test_scores_that_separate_are_all_decided() -> None:
    found = coverage(trial(1000, KnownScores(-6), KnownScores(6), sets=50))
    assert (found.simulated, found.oracle) == pytest.approx((1, 1), abs=1e-6)


@pytest.mark.parametrize("levels", [None, 20])
def test_shares_of_known_scores_are_those_of_many_drawn(levels: int | None) -> None:
    scores = KnownScores(-0.5, levels)
    drawn = scores.draw(np.random.Generator(np.random.PCG64(3)), 200_000)
    for threshold in (0.05, 0.2, 0.35, 0.5):
        assert scores.share_above(threshold) == pytest.approx((drawn > threshold).mean(), abs=0.004)
        assert scores.share_below(threshold) == pytest.approx((drawn < threshold).mean(), abs=0.004)
