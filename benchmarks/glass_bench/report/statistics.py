"""Numbers from repeated measurements: percentiles, spread, straight lines, bootstrap. Nothing is timed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glass_bench.errors import BenchError

# A larger spread of the repeats is printed beside the figure, which then has two digits.
WIDE_SPREAD = 0.05
PERCENTILES = (50, 90, 95, 99)
_ROW_NUMBERS = 1 << 20  # of resamples that are drawn together


@dataclass(frozen=True)
class Distribution:
    """Percentiles of single values (linear interpolation between ranks, NumPy's default), in the unit of the values."""

    count: int
    minimum: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    maximum: float


@dataclass(frozen=True)
class Repeated:
    """One figure measured several times.

    `spread` is (largest - smallest) / median over the repeats; None with a single repeat: nothing is known of it.
    """

    median: float
    low: float
    high: float
    repeats: int
    spread: float | None

    @property
    def wide(self) -> bool:
        """Whether the repeats differ too much, or are too few, for a precise figure."""
        return self.spread is None or self.spread > WIDE_SPREAD


@dataclass(frozen=True)
class Line:
    """A least-squares line y = intercept + slope * x, and R2: the share of the variance that it explains."""

    slope: float
    intercept: float
    r2: float


@dataclass(frozen=True)
class Interval:
    """A point estimate with the bounds of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratio:
    """`value` = ours / theirs, with the bounds that the spread of both sides allows.

    `known`: both sides have repeats; without them nothing is known of their noise, and the bounds say nothing.
    """

    value: float
    low: float
    high: float
    known: bool

    @property
    def told_apart(self) -> bool:
        """Whether 1 lies outside the bounds of two sides with repeats: they differ by more than their noise."""
        return self.known and not self.low <= 1 <= self.high


def distribution(values: Sequence[float]) -> Distribution:
    """Percentiles of at least one value."""
    if not values:
        raise BenchError("no values: every query of the run failed or none was made")
    array = np.asarray(values, np.float64)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(array, PERCENTILES))
    return Distribution(len(array), float(array.min()), float(array.mean()), p50, p90, p95, p99, float(array.max()))


def repeated(values: Sequence[float]) -> Repeated:
    """Median and spread of one figure's repeats."""
    if not values:
        raise BenchError("no repeats were measured")
    low, high, median = min(values), max(values), float(np.median(values))
    spread = (high - low) / abs(median) if len(values) > 1 and median else None
    return Repeated(median, low, high, len(values), spread)


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """The least-squares line through at least two different x; R2 is 1 where y does not vary and the line is flat."""
    if len(x) != len(y) or len(set(x)) < 2:
        raise BenchError(f"a line needs at least two different x; got {len(set(x))}")
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    dx, dy = xs - xs.mean(), ys - ys.mean()
    slope = float(dx @ dy / (dx @ dx))
    residual = dy - slope * dx
    total = float(dy @ dy)
    r2 = 1.0 if total == 0 else 1 - float(residual @ residual) / total
    return Line(slope, float(ys.mean() - slope * xs.mean()), r2)


def ratio(ours: Repeated, theirs: Repeated) -> Ratio:
    """How many times theirs ours is: of medians, with the bounds of the farthest repeats."""
    if min(theirs.low, theirs.median) <= 0:
        raise BenchError(f"no ratio to a figure of {theirs.low:g}")
    known = ours.spread is not None and theirs.spread is not None
    return Ratio(ours.median / theirs.median, ours.low / theirs.high, ours.high / theirs.low, known)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], count: int, *, resamples: int, seed: int, confidence: float = 0.95
) -> Interval:
    """Percentile bootstrap over `count` items: `statistic` gets row numbers and may give NaN where it is undefined.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13. The bounds are NaN where more than
    half of the resamples leave the statistic undefined.
    """

    def one_by_one(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([[statistic(row)] for row in rows], np.float64)

    value = statistic(np.arange(count))
    ((low, high),) = bootstrap_bounds(one_by_one, 1, count, resamples=resamples, seed=seed, confidence=confidence)
    return Interval(value, low, high)


def bootstrap_bounds(
    statistics: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    figures: int,
    count: int,
    *,
    resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> list[tuple[float, float]]:
    """The bounds of `bootstrap` for several figures at once, over the same resamples.

    `statistics` gets row numbers, int64 (resamples, count), some at a time, and gives float64 (resamples, `figures`).
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    at_once = max(1, _ROW_NUMBERS // count)
    draws = [
        statistics(generator.integers(0, count, (min(at_once, resamples - done), count)))
        for done in range(0, resamples, at_once)
    ]
    return [_bounds(values, confidence) for values in np.concatenate([np.empty((0, figures)), *draws]).T]


def _bounds(draws: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    defined = draws[np.isfinite(draws)]
    if len(defined) * 2 < max(len(draws), 1):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(defined, (tail, 100 - tail))
    return float(low), float(high)
