"""Figures of a record, worked by hand."""

from dataclasses import replace

import pytest
from glass_bench.measure.record import SweepPoint
from glass_bench.report.figures import (
    cost_ratio,
    crop_fit,
    failures,
    harness_overhead_ms,
    mean_latency,
    overhead_percent,
    pooled_latency,
    stage_times,
)

from tests.glass_bench.records import FAST, SLOW, entry


def test_figures_worked_by_hand() -> None:
    fast = entry("glass", FAST)
    mean = mean_latency(fast)
    assert mean is not None
    assert (mean.median, mean.low, mean.high) == pytest.approx((15.1, 15.1, 15.2))
    pooled = pooled_latency(fast)
    assert pooled is not None
    assert (pooled.count, pooled.p50) == pytest.approx((6, (10.2 + 20) / 2))
    stages = stage_times(fast)
    assert stages is not None
    assert stages.unaccounted == pytest.approx(0.25)  # a quarter decoding, a half in the engine
    assert harness_overhead_ms(fast) == pytest.approx(0.1)
    assert overhead_percent(fast) == pytest.approx(0.2)  # of 50 ms


def test_the_cost_is_compared_on_the_images_that_both_judged() -> None:
    both = cost_ratio(entry("slow", SLOW), entry("resize", FAST))
    assert both is not None
    assert both.value == pytest.approx(60.2 / 30)
    first_only = cost_ratio(entry("tiles", [[30.0], [30.0], [30.0]]), entry("resize", FAST))
    assert first_only is not None
    assert first_only.value == pytest.approx(3)


def test_a_void_run_counts_in_no_figure_but_its_failures_are_counted() -> None:
    whole = entry("glass", FAST)
    broken = replace(whole.runs[0], void=True, failures=2, inside_ms=(9999.0, 9999.0))
    found = replace(whole, runs=(broken, *whole.runs[1:]))
    pooled = pooled_latency(found)
    assert pooled is not None
    assert pooled.maximum == 20
    assert failures(found) == 2


def test_the_crop_fit_goes_through_the_medians() -> None:
    points = tuple(SweepPoint(k, (10 + 5 * k, 10 + 5 * k, 999.0), 100 + 2 * k) for k in (1, 2, 4, 8))
    fit = crop_fit(entry("glass", FAST, crop_sweep=points))
    assert fit is not None
    assert (fit.time.slope, fit.time.intercept, fit.time.r2) == pytest.approx((5, 10, 1))
    assert fit.memory is not None
    assert fit.memory.slope == pytest.approx(2)
    assert crop_fit(entry("glass", FAST)) is None
