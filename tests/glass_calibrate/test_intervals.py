"""Exact intervals of rates."""

import numpy as np
import pytest
from glass_calibrate.intervals import exact_rate, group_rates
from scipy.stats import binom


@pytest.mark.parametrize(
    ("count", "images", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),  # Clopper and Pearson's table
        (10, 10, 0.6915, 1.0),
        (5, 10, 0.1871, 0.8129),
        (1, 100, 0.0003, 0.0545),
        (0, 0, 0.0, 1.0),
    ],
)
def test_bounds(count: int, images: int, low: float, high: float) -> None:
    rate = exact_rate(count, images)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("images", [5, 40])
def test_the_true_share_is_covered_at_least_as_often_as_promised(images: int) -> None:
    rates = [exact_rate(count, images, 0.9) for count in range(images + 1)]
    for share in np.linspace(0.01, 0.99, 50):
        covered = sum(binom.pmf(r.count, images, share) for r in rates if r.low <= share <= r.high)
        assert covered >= 0.9


def test_groups_come_worst_first_with_intervals_that_hold_together() -> None:
    found = group_rates({"phone": (1, 100), "scan": (5, 20), "night": (1, 4)})
    assert [one.group for one in found] == ["scan", "night", "phone"]  # of equal rates the one that is known better
    alone = exact_rate(1, 100, 1 - 0.05 / 3)
    assert found[-1].rate == alone
    assert alone.high > exact_rate(1, 100).high
    assert group_rates({}) == ()
