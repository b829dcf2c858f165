"""The paper's table: how good the probabilities of one engine are, with bootstrap intervals. scikit-learn computes.

The positive class is `fake`; `probability` is P(fake). Source of the choice: arXiv 2601.00141, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glass_bench.report.statistics import Interval, bootstrap
from glass_rt.errors import MissingDependency

try:
    from sklearn import metrics as sklearn_metrics
except ImportError:
    raise MissingDependency("scikit-learn", "bench", "the quality metrics") from None

ECE_BINS = 15
Labels = NDArray[np.bool_]  # fake?
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does that lets at most `limit` of the real images be called fake."""

    limit: float
    threshold: float
    false_positive_rate: float
    true_positive_rate: float
    accuracy: float


@dataclass(frozen=True)
class Quality:
    """One engine's figures on one set of images. `confusion`: rows fake, real; columns called fake, called real."""

    images: int
    fake: int
    real: int
    accuracy: Interval
    auc: Interval | None
    f1: Interval
    precision: Interval
    recall: Interval
    ece: Interval
    confidence_right: float | None
    confidence_wrong: float | None
    confusion: tuple[tuple[int, int], tuple[int, int]]
    operating_point: OperatingPoint | None


def quality(
    fake: Labels, probability: Probabilities, *, threshold: float, fpr_limit: float, resamples: int, seed: int
) -> Quality:
    """Every figure of at least one image; AUC and the operating point need both classes."""
    called = probability >= threshold
    both = bool(fake.any() and not fake.all())

    def interval(statistic: Callable[[Labels, Probabilities, Labels], float]) -> Interval:
        return bootstrap(
            lambda rows: statistic(fake[rows], probability[rows], called[rows]),
            len(fake),
            resamples=resamples,
            seed=seed,
        )

    confidence = np.where(called, probability, 1 - probability)
    right = called == fake
    (fake_hit, fake_miss), (real_hit, real_miss) = confusion_matrix(fake, called)
    return Quality(
        images=len(fake),
        fake=int(fake.sum()),
        real=int((~fake).sum()),
        accuracy=interval(lambda truth, _p, guess: float(sklearn_metrics.accuracy_score(truth, guess))),
        auc=interval(lambda truth, p, _guess: auc(truth, p)) if both else None,
        f1=interval(lambda truth, _p, guess: weighted_scores(truth, guess)[2]),
        precision=interval(lambda truth, _p, guess: weighted_scores(truth, guess)[0]),
        recall=interval(lambda truth, _p, guess: weighted_scores(truth, guess)[1]),
        ece=interval(calibration_error),
        confidence_right=float(confidence[right].mean()) if right.any() else None,
        confidence_wrong=float(confidence[~right].mean()) if not right.all() else None,
        confusion=((fake_hit, fake_miss), (real_hit, real_miss)),
        operating_point=operating_point(fake, probability, fpr_limit) if both else None,
    )


def auc(fake: Labels, probability: Probabilities) -> float:
    """Area under the ROC curve; NaN where only one class is there (a resample may miss one)."""
    if not fake.any() or fake.all():
        return float("nan")
    return float(sklearn_metrics.roc_auc_score(fake, probability))


def weighted_scores(fake: Labels, called: Labels) -> tuple[float, float, float]:
    """Precision, recall and F1 of both classes, weighted by their numbers; 0 for a class that is never called."""
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        fake, called, average="weighted", zero_division=0
    )
    return float(precision), float(recall), float(f1)


def confusion_matrix(fake: Labels, called: Labels) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows fake, real; columns called fake, called real."""
    matrix = sklearn_metrics.confusion_matrix(fake, called, labels=[True, False])
    return (int(matrix[0, 0]), int(matrix[0, 1])), (int(matrix[1, 0]), int(matrix[1, 1]))


def calibration_error(fake: Labels, probability: Probabilities, called: Labels, bins: int = ECE_BINS) -> float:
    """Expected calibration error: mean |accuracy - confidence| over equally wide bins of the confidence in the label.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equation 3: bins are open below and
    closed above.
    """
    confidence = np.where(called, probability, 1 - probability)
    right = (called == fake).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(index, right - confidence, minlength=bins)  # count * (accuracy - confidence) per bin
    return float(np.abs(gaps).sum() / len(fake))


def operating_point(fake: Labels, probability: Probabilities, limit: float) -> OperatingPoint:
    """The threshold with the most fakes found among those with a false-positive rate of at most `limit`."""
    rates, hits, thresholds = sklearn_metrics.roc_curve(fake, probability, drop_intermediate=False)
    best = int(np.flatnonzero(rates <= limit)[-1])
    threshold = float(min(thresholds[best], 1.0)) if np.isfinite(thresholds[best]) else 1.0
    share = float(fake.mean())
    accuracy = share * hits[best] + (1 - share) * (1 - rates[best])
    return OperatingPoint(limit, threshold, float(rates[best]), float(hits[best]), float(accuracy))
