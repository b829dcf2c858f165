"""AUC with an interval that is resampled by group: windows of one photograph are no independent images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import MissingDependency

try:
    from sklearn.metrics import roc_auc_score
except ImportError:
    raise MissingDependency("scikit-learn", "train", "training") from None

RESAMPLES = 2000
Flags = NDArray[np.bool_]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of its 95 % interval; None where it is undefined."""

    value: float
    low: float | None
    high: float | None


def auc(fake: Flags, score: Scores) -> float:
    """Area under the ROC curve with `fake` as the positive class; NaN where a class is missing."""
    if not fake.any() or fake.all():
        return float("nan")
    return float(roc_auc_score(fake, score))


def by_group(statistic: Callable[[NDArray[np.int64]], float], groups: Sequence[str], seed: int) -> Interval:
    """A statistic of row numbers with its percentile interval over resampled groups.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, section 3.8 (whole clusters are drawn).
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(codes == code) for code in range(len(names))]
    generator = np.random.Generator(np.random.PCG64(seed))
    draws = np.array([
        statistic(np.concatenate([members[i] for i in generator.integers(0, len(members), len(members))]))
        for _ in range(RESAMPLES)
    ])  # fmt: skip
    value, defined = statistic(np.arange(len(codes))), draws[np.isfinite(draws)]
    if len(defined) * 2 < RESAMPLES:
        return Interval(value, None, None)
    low, high = np.percentile(defined, (2.5, 97.5))
    return Interval(value, float(low), float(high))
