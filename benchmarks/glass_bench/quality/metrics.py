"""The paper's table: how good the probabilities of one engine are, with bootstrap intervals, by scikit-learn.

The positive class is `fake`; `probability` is P(fake). Source of the choice: arXiv 2601.00141, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glass_bench.quality.bins import ECE_BINS, bin_of, confidence_of
from glass_bench.quality.resampled import FIGURES, Resampled
from glass_bench.report.statistics import Interval, bootstrap_bounds
from glass_rt.errors import MissingDependency

try:
    from sklearn import metrics as sklearn_metrics
except ImportError:
    raise MissingDependency("scikit-learn", "bench", "the quality metrics") from None

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
    plain = plain_figures(fake, probability, called)
    resampled = Resampled(fake, probability, called).figures
    bounds = bootstrap_bounds(resampled, len(FIGURES), len(fake), resamples=resamples, seed=seed)
    intervals = {name: Interval(value, *each) for name, value, each in zip(FIGURES, plain, bounds, strict=True)}
    confidence = confidence_of(probability, called)
    right = called == fake
    (fake_hit, fake_miss), (real_hit, real_miss) = confusion_matrix(fake, called)
    return Quality(
        images=len(fake),
        fake=int(fake.sum()),
        real=int((~fake).sum()),
        accuracy=intervals["accuracy"],
        auc=intervals["auc"] if both else None,
        f1=intervals["f1"],
        precision=intervals["precision"],
        recall=intervals["recall"],
        ece=intervals["ece"],
        confidence_right=float(confidence[right].mean()) if right.any() else None,
        confidence_wrong=float(confidence[~right].mean()) if not right.all() else None,
        confusion=((fake_hit, fake_miss), (real_hit, real_miss)),
        operating_point=operating_point(fake, probability, fpr_limit) if both else None,
    )


def plain_figures(fake: Labels, probability: Probabilities, called: Labels) -> tuple[float, ...]:
    """Those that have intervals, in the order of `resampled.FIGURES`, by scikit-learn."""
    accuracy = float(sklearn_metrics.accuracy_score(fake, called))
    error = calibration_error(fake, probability, called)
    return accuracy, auc(fake, probability), *weighted_scores(fake, called), error


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

    Source: see `glass_bench.quality.bins`.
    """
    confidence = confidence_of(probability, called)
    right = (called == fake).astype(np.float64)
    # count * (accuracy - confidence) per bin
    gaps = np.bincount(bin_of(confidence, bins), right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(fake))


def operating_point(fake: Labels, probability: Probabilities, limit: float) -> OperatingPoint:
    """The threshold with the most fakes found among those with a false-positive rate of at most `limit`."""
    rates, hits, thresholds = sklearn_metrics.roc_curve(fake, probability, drop_intermediate=False)
    best = int(np.flatnonzero(rates <= limit)[-1])
    threshold = float(min(thresholds[best], 1.0)) if np.isfinite(thresholds[best]) else 1.0
    share = float(fake.mean())
    accuracy = share * hits[best] + (1 - share) * (1 - rates[best])
    return OperatingPoint(limit, threshold, float(rates[best]), float(hits[best]), float(accuracy))
