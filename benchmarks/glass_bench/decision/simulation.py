"""The guarantee seen from both sides: many calibration sets from known scores, each by the rule under trial.

For continuous scores the share of sets whose true rate exceeds the promised one is known: P(Bin(n, rate) <= k). A rule
that exceeds more often breaks its promise; one that exceeds less often says less than it could.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from glass_calibrate.thresholds import Targets, TierScores, fit_tier, fit_tiers
from scipy.integrate import quad
from scipy.stats import beta

from glass_bench.decision.known_scores import Floats, KnownScores
from glass_rt.decision.calibration import Thresholds
from glass_rt.decision.tiers import NamedRule, TierRule

Side = Literal["fpr", "fnr"]
SIDES: tuple[Side, ...] = ("fpr", "fnr")
# (scores of real images, scores of fakes, what is asked for) -> thresholds
Rule: TypeAlias = Callable[[Floats, Floats, Targets], Thresholds]
STANDARD_ERRORS = 3.0
_TIER = NamedRule("every image", TierRule())


@dataclass(frozen=True)
class Trial:
    """`sets` calibration sets of `images` scores of each class, whose true distributions are `real` and `fake`."""

    real: KnownScores
    fake: KnownScores
    images: int
    targets: Targets
    sets: int = 5000
    seed: int = 606


@dataclass(frozen=True)
class Excess:
    """The share of sets whose true rate exceeds what was asked for, beside what the binomial says.

    `standard_error`: of a share of `sets` that is `expected`.
    """

    side: Side
    images: int
    sets: int
    share: float
    expected: float
    standard_error: float

    @property
    def deviation(self) -> float:
        """In standard errors, positive where the promise is broken too often."""
        return (self.share - self.expected) / self.standard_error

    @property
    def kept(self) -> bool:
        """Whether the share is not above what is expected."""
        return self.deviation <= STANDARD_ERRORS

    @property
    def exact(self) -> bool:
        """Whether the share is what is expected, from both sides."""
        return abs(self.deviation) <= STANDARD_ERRORS


def calibrated_rule(real: Floats, fake: Floats, targets: Targets) -> Thresholds:
    """The rule of `glass-rt calibrate`, for one tier."""
    tier = fit_tier(_TIER, TierScores(real, fake), targets, targets.confidence)
    assert tier.thresholds is not None, f"a trial with enough images, not: {tier.reason}"
    return tier.thresholds


def excess(trial: Trial, rule: Rule = calibrated_rule) -> dict[Side, Excess]:
    """How often a rule's thresholds exceed what was asked for, side by side."""
    generator = np.random.Generator(np.random.PCG64(trial.seed))
    broken: dict[Side, int] = dict.fromkeys(SIDES, 0)
    for _ in range(trial.sets):
        real, fake = (scores.draw(generator, trial.images) for scores in (trial.real, trial.fake))
        thresholds = rule(real, fake, trial.targets)
        for side in SIDES:
            broken[side] += exceeds(thresholds, trial, side)
    return {side: compared(broken[side], trial, side) for side in SIDES}


def exceeds(thresholds: Thresholds, trial: Trial, side: Side) -> bool:
    """Whether the true rate of these thresholds is above what was asked for."""
    if side == "fpr":
        above = thresholds.fake_above
        return above is not None and trial.real.share_above(above) > trial.targets.fpr
    below, asked = thresholds.real_below, trial.targets.fnr
    return below is not None and asked is not None and trial.fake.share_below(below) > asked


def compared(broken: int, trial: Trial, side: Side) -> Excess:
    """The share of broken promises beside the binomial's, which is computed here without the code under trial."""
    rate = trial.targets.fpr if side == "fpr" else trial.targets.fnr
    assert rate is not None, "a trial asks for both sides"
    _, expected = largest_chance(trial.images, rate, 1 - trial.targets.confidence)
    error = math.sqrt(expected * (1 - expected) / trial.sets)
    return Excess(side, trial.images, trial.sets, broken / trial.sets, expected, error)


def largest_chance(images: int, rate: float, risk: float) -> tuple[int, float]:
    """The largest k with P(Bin(images, rate) <= k) <= risk, and that chance: a sum of exact terms."""
    chance = 0.0
    for k in range(images + 1):
        ways = math.lgamma(images + 1) - math.lgamma(k + 1) - math.lgamma(images - k + 1)
        term = math.exp(ways + k * math.log(rate) + (images - k) * math.log1p(-rate))
        if chance + term > risk:
            return k - 1, chance
        chance += term
    raise AssertionError("all of it is more than any risk")


@dataclass(frozen=True)
class TierExcess:
    """How often each tier's true rates exceed what was asked for, and in what share of the sets any tier's FPR does."""

    each: dict[str, dict[Side, Excess]]
    any_fpr: float


def excess_by_tier(trials: Mapping[str, Trial], targets: Targets, seed: int) -> TierExcess:
    """Several tiers calibrated together by `glass-rt calibrate`'s own code, each with scores of its own.

    All trials have equally many sets; `targets`, of both rates, takes the place of theirs.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    table = tier_rules(tuple(trials))
    sets = next(iter(trials.values())).sets
    broken: dict[str, dict[Side, int]] = {name: dict.fromkeys(SIDES, 0) for name in trials}
    any_broken = 0
    for _ in range(sets):
        scores = {
            name: TierScores(trial.real.draw(generator, trial.images), trial.fake.draw(generator, trial.images))
            for name, trial in trials.items()
        }
        over = [
            (tier.name, side)
            for tier in fit_tiers(table, scores, targets)
            for side in SIDES
            if tier.thresholds is not None and exceeds(tier.thresholds, trials[tier.name], side)
        ]
        any_broken += any(side == "fpr" for _, side in over)
        for name, side in over:
            broken[name][side] += 1
    each = replace(targets, confidence=targets.confidence_of_each(len(trials)))
    found = {
        name: {side: compared(broken[name][side], replace(trial, targets=each), side) for side in SIDES}
        for name, trial in trials.items()
    }
    return TierExcess(found, any_broken / sets)


def tier_rules(names: Sequence[str]) -> tuple[NamedRule, ...]:
    """A table of tiers by the longer side, such as real tables are, whose last one takes every image."""
    cuts = [NamedRule(name, TierRule(longer_below=500 * (place + 1))) for place, name in enumerate(names[:-1])]
    return (*cuts, NamedRule(names[-1], TierRule()))


@dataclass(frozen=True)
class Coverage:
    """The share of images that get the label `fake` or `real`, half of them fakes.

    `simulated`: mean over the sets. `oracle`: with thresholds at the true quantiles. `explained`: the mean that the
    bound itself has, by integration over where the thresholds fall.
    """

    images: int
    simulated: float
    standard_error: float
    oracle: float
    explained: float | None


def coverage(trial: Trial) -> Coverage:
    """What share of images is decided, beside the oracle's."""
    generator = np.random.Generator(np.random.PCG64(trial.seed))
    shares = []
    for _ in range(trial.sets):
        real, fake = (scores.draw(generator, trial.images) for scores in (trial.real, trial.fake))
        shares.append(decided(calibrated_rule(real, fake, trial.targets), trial))
    oracle = _oracle(trial)
    crossed = oracle.fake_above == oracle.real_below
    return Coverage(
        trial.images,
        float(np.mean(shares)),
        float(np.std(shares, ddof=1) / math.sqrt(trial.sets)),
        decided(oracle, trial),
        None if crossed else _explained(trial),
    )


def decided(thresholds: Thresholds, trial: Trial) -> float:
    """The true share of images beyond either threshold, half of them fakes."""
    above, below = thresholds.fake_above, thresholds.real_below
    assert above is not None, "a trial of both sides"
    assert below is not None, "a trial of both sides"
    shares = (s.share_above(above) + s.share_below(below) for s in (trial.real, trial.fake))
    return sum(shares) / 2


def _oracle(trial: Trial) -> Thresholds:
    assert trial.targets.fnr is not None, "a trial of both sides"
    above, below = trial.real.quantile(1 - trial.targets.fpr), trial.fake.quantile(trial.targets.fnr)
    if below > above:
        middle = (above + below) / 2
        return Thresholds(middle, middle)
    return Thresholds(above, below)


def _explained(trial: Trial) -> float:
    """The mean share decided, by where order statistics fall: the true rate of a threshold is Beta(k + 1, n - k)."""
    assert trial.targets.fnr is not None, "a trial of both sides"
    return _mean_beyond(
        trial, trial.targets.fpr, lambda rate: (rate + trial.fake.share_above(trial.real.quantile(1 - rate))) / 2
    ) + _mean_beyond(
        trial, trial.targets.fnr, lambda rate: (rate + trial.real.share_below(trial.fake.quantile(rate))) / 2
    )


def _mean_beyond(trial: Trial, rate: float, share: Callable[[float], float]) -> float:
    most, _ = largest_chance(trial.images, rate, 1 - trial.targets.confidence)
    falls = beta(most + 1, trial.images - most)
    value, _ = quad(lambda true: share(true) * falls.pdf(true), *falls.ppf((1e-9, 1 - 1e-9)), limit=200)
    return float(value)
