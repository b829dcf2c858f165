"""Statistics against numbers worked by hand and against SciPy."""

import math

import numpy as np
import pytest
from glass_bench.errors import BenchError
from glass_bench.report.statistics import bootstrap, distribution, fit_line, ratio, repeated
from scipy import stats


def test_percentiles_worked_by_hand() -> None:
    found = distribution([10, 20, 30, 40, 50])
    assert (found.count, found.minimum, found.mean, found.maximum) == (5, 10, 30, 50)
    # Rank 0.9 * 4 = 3.6 lies six tenths of the way from 40 to 50.
    assert (found.p50, found.p90, found.p95, found.p99) == pytest.approx((30, 46, 48, 49.6))


def test_percentiles_are_scipys() -> None:
    values = np.random.Generator(np.random.PCG64(1)).exponential(20, 137).tolist()
    found = distribution(values)
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert getattr(found, name) == pytest.approx(stats.mstats.mquantiles(values, share, alphap=1, betap=1)[0])


def test_a_distribution_of_nothing_is_an_error() -> None:
    with pytest.raises(BenchError, match="no values"):
        distribution([])


@pytest.mark.parametrize(
    ("values", "median", "spread", "wide"),
    [
        ([100.0, 102.0, 98.0], 100.0, 0.04, False),
        ([100.0, 110.0, 90.0], 100.0, 0.2, True),
        ([100.0, 104.0], 102.0, 4 / 102, False),
        ([100.0], 100.0, None, True),  # a single repeat tells nothing of its own noise
    ],
)
def test_spread_is_the_range_over_the_median(
    values: list[float], median: float, spread: float | None, wide: bool
) -> None:
    found = repeated(values)
    assert (found.median, found.wide, found.repeats) == (median, wide, len(values))
    assert found.spread == (None if spread is None else pytest.approx(spread))


def test_a_line_worked_by_hand() -> None:
    # Means 2 and 16/3; slope (1 * 7/3 + 1 * 8/3) / 2 = 5/2; residuals 1/6, -1/3, 1/6 of deviations -7/3, -1/3, 8/3.
    line = fit_line([1, 2, 3], [3, 5, 8])
    assert (line.slope, line.intercept) == pytest.approx((2.5, 1 / 3))
    assert line.r2 == pytest.approx(1 - (1 / 6) / (38 / 3))


def test_a_line_is_scipys() -> None:
    generator = np.random.Generator(np.random.PCG64(2))
    x = np.arange(1, 17)
    y = 40 + 12.5 * x + generator.normal(0, 3, 16)
    line, theirs = fit_line(x.tolist(), y.tolist()), stats.linregress(x, y)
    assert (line.slope, line.intercept) == pytest.approx((theirs.slope, theirs.intercept))
    assert line.r2 == pytest.approx(theirs.rvalue**2)


@pytest.mark.parametrize(("x", "y"), [([1], [2]), ([3, 3], [1, 2]), ([1, 2], [1])])
def test_no_line_without_two_points(x: list[float], y: list[float]) -> None:
    with pytest.raises(BenchError, match="two different x"):
        fit_line(x, y)


def test_a_flat_line_explains_everything() -> None:
    line = fit_line([1, 2, 3], [5, 5, 5])
    assert (line.slope, line.intercept, line.r2) == (0, 5, 1)


def test_a_ratio_has_the_bounds_of_the_farthest_repeats() -> None:
    found = ratio(repeated([20, 22, 24]), repeated([10, 11, 12]))
    assert (found.value, found.low, found.high) == pytest.approx((2, 20 / 12, 2.4))
    assert found.told_apart
    assert not ratio(repeated([10, 12]), repeated([11, 13])).told_apart


@pytest.mark.parametrize(("ours", "theirs"), [([20], [10]), ([20], [10, 10.1]), ([20, 20.1], [10])])
def test_a_single_run_tells_nothing_apart(ours: list[float], theirs: list[float]) -> None:
    assert not ratio(repeated(ours), repeated(theirs)).told_apart


def test_the_bootstrap_interval_of_a_mean_is_scipys() -> None:
    values = np.random.Generator(np.random.PCG64(3)).normal(10, 2, 200)
    found = bootstrap(lambda rows: float(values[rows].mean()), 200, resamples=2000, seed=4)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(5))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.03)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.03)


def test_the_bootstrap_is_seeded() -> None:
    values = np.arange(50.0)
    first, second, other = (
        bootstrap(lambda rows: float(values[rows].mean()), 50, resamples=100, seed=seed) for seed in (1, 1, 2)
    )
    assert first == second != other


def test_the_bootstrap_leaves_out_what_is_undefined_but_not_mostly() -> None:
    mostly = bootstrap(lambda rows: float("nan") if 0 in rows else 1.0, 3, resamples=200, seed=1)
    assert math.isnan(mostly.low)
    sometimes = bootstrap(lambda rows: float("nan") if len(set(rows)) == 1 else 1.0, 3, resamples=200, seed=1)
    assert (sometimes.low, sometimes.high) == (1, 1)
