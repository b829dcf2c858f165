"""The figures of `glass_bench.quality.metrics` over many resamples at once: counts instead of calls of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_bench.quality.bins import ECE_BINS, bin_of, confidence_of

FIGURES = ("accuracy", "auc", "precision", "recall", "f1", "ece")  # columns of what `figures` gives
Rows = NDArray[np.int64]  # (resamples, images): numbers of images
Values = NDArray[np.float64]


class Resampled:
    """Figures of resamples of n images: `fake` and `called` bool (n,), `probability` of a fake float64 (n,)."""

    def __init__(self, fake: NDArray[np.bool_], probability: Values, called: NDArray[np.bool_]) -> None:
        self._fake = fake
        self._cell = 2 * fake.astype(np.int64) + called  # 0: a real one called real, 1: called fake, 2, 3: fakes
        self._scores, self._rank = np.unique(probability, return_inverse=True)
        confidence = confidence_of(probability, called)
        self._bin = bin_of(confidence)
        self._gap = (called == fake).astype(np.float64) - confidence

    def figures(self, rows: Rows) -> Values:
        """float64 (resamples, FIGURES): one row for each of `rows`; AUC is NaN where a class is missing."""
        cells = _counts(self._cell[rows], 4)
        columns = (*_of_cells(cells), self._error(rows))
        accuracy, precision, recall, f1, error = columns
        return np.stack([accuracy, self._areas(rows), precision, recall, f1, error], axis=1)

    def _error(self, rows: Rows) -> Values:
        gaps = _counts(self._bin[rows], ECE_BINS, self._gap[rows])
        error: Values = np.abs(gaps).sum(axis=1) / rows.shape[1]
        return error

    def _areas(self, rows: Rows) -> Values:
        """Of pairs of a fake and a real image, the share with the higher score for the fake; ties are half of one."""
        kinds = len(self._scores)
        pairs = _counts(self._rank[rows] + kinds * self._fake[rows], 2 * kinds)
        real, fake = pairs[:, :kinds], pairs[:, kinds:]
        below = np.cumsum(real, axis=1) - real
        wins = (fake * (below + real / 2)).sum(axis=1)
        return _share(wins, fake.sum(axis=1) * real.sum(axis=1), np.nan)


def _counts(keys: NDArray[np.int64], kinds: int, weights: Values | None = None) -> NDArray[Any]:
    """How often each row of `keys` (R, n) holds 0..kinds-1, or the weights of those: (R, kinds)."""
    offset = kinds * np.arange(len(keys))[:, None]
    flat = None if weights is None else weights.ravel()
    return np.bincount((keys + offset).ravel(), flat, minlength=kinds * len(keys)).reshape(len(keys), kinds)


def _of_cells(cells: NDArray[np.int64]) -> tuple[Values, Values, Values, Values]:
    """Accuracy, and precision, recall and F1 of both classes weighted by their numbers, as scikit-learn has them."""
    real_real, real_fake, fake_real, fake_fake = cells.T
    images = cells.sum(axis=1)
    accuracy = (real_real + fake_fake) / images
    parts = []
    for right, missed, mistaken in ((real_real, real_fake, fake_real), (fake_fake, fake_real, real_fake)):
        of_class = right + missed
        shares = (
            _share(right, right + mistaken, 0.0),
            _share(right, of_class, 0.0),
            _share(2 * right, of_class + right + mistaken, 0.0),
        )
        parts.append([share * of_class / images for share in shares])
    precision, recall, f1 = (real + fake for real, fake in zip(*parts, strict=True))
    return accuracy, precision, recall, f1


def _share(part: NDArray[Any], whole: NDArray[Any], undefined: float) -> Values:
    shares: Values = np.where(whole > 0, part / np.maximum(whole, 1), undefined)
    return shares
