"""AUC, and a lower bound of it that holds for images that come in groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
_LEVEL = 5  # percentile: the bound lies below the AUC of the population 95 times in a hundred


def auc(fake: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """The share of pairs of a fake and a real image in which the fake has the higher score; ties count half."""
    return float(_weighted_auc(fake, scores, np.ones((1, len(scores))))[0])


def lower_bound(fake: NDArray[np.bool_], scores: NDArray[np.float64], groups: NDArray[np.int64], seed: int) -> float:
    """The one-sided lower 95 % bound of the AUC, by resampling whole groups.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, section 3.8.
    """
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1
    generator = np.random.Generator(np.random.PCG64(seed))
    times = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)  # each group is drawn
    areas = _weighted_auc(fake, scores, times[:, codes].astype(np.float64))
    return float(np.percentile(areas[np.isfinite(areas)], _LEVEL))


def _weighted_auc(
    fake: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUC for each row of weights, float64 (R, N); NaN where a class weighs nothing."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of equal scores
    fakes, reals = (np.add.reduceat(weights[:, order] * label[order], starts, axis=1) for label in (fake, ~fake))
    below = np.cumsum(reals, axis=1) - reals / 2
    with np.errstate(invalid="ignore"):
        areas: NDArray[np.float64] = (fakes * below).sum(axis=1) / (fakes.sum(axis=1) * reals.sum(axis=1))
    return areas
