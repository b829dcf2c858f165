"""How good a probability is: Brier score, Cllr and reliability at a stated prior, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glass_calibrate.intervals import exact_rate
from glass_calibrate.probability import Flags, Floats, class_weights

ECE_FROM = 300  # images; the error of an ECE over fewer is of its own size
BINS = 10
RESAMPLES = 1000
_LEAST = 1e-12


@dataclass(frozen=True)
class Figure:
    """A figure with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ReliabilityBin:
    """A bin of images by their probability: its mean, and the share of fakes at the prior with its exact interval."""

    images: int
    fake: int
    mean: float
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Scoring:
    """The figures of probabilities over `images` images; `ece` None under ECE_FROM images.

    `brier`: mean squared error, the classes weighing as the prior says. `cllr`: the cost of the log-likelihood ratio
    in bits, 0 for certainty that is right, 1 for what always says the prior (Brümmer and du Preez, Computer Speech and
    Language 20, 2006).
    """

    images: int
    prior: float
    brier: Figure
    cllr: Figure
    ece: float | None
    reliability: tuple[ReliabilityBin, ...]


def score_probabilities(probability: Floats, fake: Flags, prior: float, seed: int) -> Scoring:
    """Scores probabilities (n,) of images that are `fake` (n,) or real, both classes among them."""
    bins = _bins(probability, fake, prior)
    return Scoring(
        images=len(fake),
        prior=prior,
        brier=_resampled(np.square(probability - fake), fake, prior, seed),
        cllr=_resampled(_bits(probability, fake, prior), fake, 0.5, seed),
        ece=_calibration_error(probability, fake, prior, bins) if len(fake) >= ECE_FROM else None,
        reliability=bins,
    )


def _bits(probability: Floats, fake: Flags, prior: float) -> Floats:
    """log2(1 + 1/LR) of fakes and log2(1 + LR) of real images: (n,). LR: what the probability adds to the prior."""
    bounded = np.clip(probability, _LEAST, 1 - _LEAST)
    log_ratio = np.log(bounded) - np.log1p(-bounded) - np.log(prior / (1 - prior))
    bits: Floats = np.logaddexp(0, np.where(fake, -log_ratio, log_ratio)) / np.log(2)
    return bits


def _resampled(loss: Floats, fake: Flags, prior: float, seed: int) -> Figure:
    """The mean loss, classes at the prior, with its percentile bootstrap interval; each class is resampled alone."""
    generator = np.random.Generator(np.random.PCG64(seed))
    total, value = np.zeros(RESAMPLES), 0.0
    for losses, weight in ((loss[fake], prior), (loss[~fake], 1 - prior)):
        value += weight * float(losses.mean())
        draws = [float(losses[generator.integers(0, len(losses), len(losses))].mean()) for _ in range(RESAMPLES)]
        total += weight * np.array(draws)
    low, high = np.percentile(total, (2.5, 97.5)).tolist()
    return Figure(value, low, high)


def _bins(probability: Floats, fake: Flags, prior: float) -> tuple[ReliabilityBin, ...]:
    """Bins of about equally many images, in the order of their probabilities; equal ones share a bin."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1]))
    index = np.searchsorted(edges, probability, side="right")
    fakes, reals = int(fake.sum()), int((~fake).sum())
    factor = prior / (1 - prior) * reals / fakes  # from the odds among these images to those at the prior
    found = []
    for number in np.unique(index).tolist():
        members = index == number
        rate = exact_rate(int(fake[members].sum()), int(members.sum()))
        low, share, high = (_reweighted(value, factor) for value in (rate.low, rate.value or 0.0, rate.high))
        found.append(ReliabilityBin(rate.images, rate.count, float(probability[members].mean()), share, low, high))
    return tuple(found)


def _reweighted(share: float, factor: float) -> float:
    return 1.0 if share >= 1 else factor * share / (factor * share + 1 - share)


def _calibration_error(probability: Floats, fake: Flags, prior: float, bins: tuple[ReliabilityBin, ...]) -> float:
    """Expected calibration error over the bins: |mean probability - share of fakes|, images weighing as the prior says.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equation 3, on bins of equal mass.
    """
    order = np.argsort(probability, kind="stable")
    weights = class_weights(fake, prior)[order]
    gaps = weights * (probability[order] - fake[order])
    ends = np.cumsum([found.images for found in bins])
    return float(sum(abs(gaps[end - found.images : end].sum()) for end, found in zip(ends, bins, strict=True)))
