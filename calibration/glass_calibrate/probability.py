"""A calibrated probability: a curve from the engine's probability to one that means what it says at a stated prior.

The engine's probability reflects the shares of its training images and grows too sure. The curve is fitted with the
classes reweighted, so the shares of the calibration images do not matter, and its odds are the likelihood ratio times
the odds of the prior. It never falls, and no label depends on it, since thresholds are of raw scores.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from glass_rt.decision.probability import LEAST, ProbabilityCurve
from glass_rt.errors import import_failure

try:
    from scipy.optimize import minimize
    from sklearn.isotonic import IsotonicRegression
except ImportError as error:
    raise import_failure(error, "scikit-learn", "calibrate", "calibration") from None

ISOTONIC_FROM = 1000  # images of the smaller class; with fewer, steps would follow single images
FOLDS = 5
_SLOPES = (1e-6, 1e3)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def fit_curve(raw: Floats, fake: Flags, prior: float) -> ProbabilityCurve:
    """The curve for raw probabilities (n,) of images that are `fake` (n,) or real, both classes among them."""
    smaller = min(int(fake.sum()), int((~fake).sum()))
    return fit_steps(raw, fake, prior) if smaller >= ISOTONIC_FROM else fit_line(raw, fake, prior)


def fit_line(raw: Floats, fake: Flags, prior: float) -> ProbabilityCurve:
    """Temperature and bias of the least cross-entropy, with the targets of Platt: both stay finite for any scores.

    The classes weigh alike, and the log odds of the prior are added to the bias. Weights of the prior would not do: a
    target is about 1/n away from certainty, which is much beside a prior of 1 %.
    Source: Platt, "Probabilistic outputs for support vector machines" (1999), section 2.2.
    """
    logits, weights = logit(raw), class_weights(fake, 0.5)
    positives, negatives = int(fake.sum()), int((~fake).sum())
    targets = np.where(fake, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(line: Floats) -> tuple[float, Floats]:
        z = line[0] * logits + line[1]
        residual = weights * (_sigmoid(z) - targets)
        value = float((weights * (np.logaddexp(0, z) - targets * z)).sum())
        return value, np.array([float(residual @ logits), float(residual.sum())])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[_SLOPES, (None, None)])
    # Six digits: what the last bits of a sum on another processor say is no part of a decision.
    log_odds = math.log(prior) - math.log1p(-prior)
    temperature, bias = (float(f"{value:.6g}") for value in (1 / found.x[0], found.x[1] + log_odds))
    return ProbabilityCurve("logistic", prior, temperature=temperature, bias=bias)


def fit_steps(raw: Floats, fake: Flags, prior: float) -> ProbabilityCurve:
    """Isotonic regression (pool adjacent violators), with one image of the other class added beyond each end.

    Without those two the ends would be the certainties 0 and 1, which no number of images shows; with them the
    likelihood ratio stays below about the number of images of the smaller class.
    """
    weights = class_weights(fake, prior)
    lowest, highest = float(raw.min()), float(raw.max())
    x = np.concatenate([[lowest], raw, [highest]])
    y = np.concatenate([[1.0], fake, [0.0]])
    w = np.concatenate([[prior / fake.sum()], weights, [(1 - prior) / (~fake).sum()]])
    model = IsotonicRegression(y_min=0, y_max=1, increasing=True, out_of_bounds="clip").fit(x, y, w)
    points = zip(model.X_thresholds_.tolist(), model.y_thresholds_.tolist(), strict=True)
    rising = dict(points)  # of two points at one place the higher, the last, counts
    return ProbabilityCurve("isotonic", prior, knots=tuple(rising.items()))


def calibrated(curve: ProbabilityCurve, raw: Floats) -> Floats:
    """The calibrated probabilities (n,) of raw ones (n,)."""
    return np.array([curve.probability(score) for score in raw.tolist()])


def out_of_fold(raw: Floats, fake: Flags, sources: NDArray[np.int64], prior: float, seed: int) -> Floats:
    """Each image's calibrated probability (n,) by a curve that was fitted without it, and without its source.

    `sources` (n,) numbers the sources. NaN where a fold leaves one class without images to fit on.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    names = np.unique(sources)
    folds = dict(zip(names.tolist(), generator.permutation(len(names)) % FOLDS, strict=True))
    fold = np.array([folds[source] for source in sources.tolist()])
    result = np.full(len(raw), np.nan)
    for number in range(FOLDS):
        held = fold == number
        if held.any() and fake[~held].any() and not fake[~held].all():
            result[held] = calibrated(fit_curve(raw[~held], fake[~held], prior), raw[held])
    return result


def class_weights(fake: Flags, prior: float) -> Floats:
    """Weights (n,) by which the fakes together weigh `prior`, and the real images the rest."""
    weights: Floats = np.where(fake, prior / max(1, int(fake.sum())), (1 - prior) / max(1, int((~fake).sum())))
    return weights


def logit(probability: Floats) -> Floats:
    """log(p / (1 - p)), of probabilities kept LEAST away from 0 and 1, as the runtime keeps them."""
    kept = np.clip(probability, LEAST, 1 - LEAST)
    logits: Floats = np.log(kept) - np.log1p(-kept)
    return logits


def _sigmoid(z: Floats) -> Floats:
    bounded: Floats = 1 / (1 + np.exp(-np.clip(z, -700, 700)))
    return bounded
