"""The bound: how many images may lie beyond a threshold, and where it lies then."""

import math

import numpy as np
import pytest
from glass_calibrate.guarantee import (
    chance_of_excess,
    fake_above,
    fewest_images,
    lowest_rate,
    most_beyond,
    real_below,
    uncrossed,
)

from glass_rt.errors import UsageError


def exact_chance(images: int, rate: float, most: int) -> float:
    return math.fsum(math.comb(images, k) * rate**k * (1 - rate) ** (images - k) for k in range(most + 1))


@pytest.mark.parametrize(
    ("images", "rate", "most"),
    [
        (298, 0.01, None),
        (299, 0.01, 0),
        (500, 0.01, 1),
        (1000, 0.01, 4),
        (2000, 0.01, 12),
        (5000, 0.01, 38),
        (10000, 0.01, 83),
        (2995, 0.001, 0),
        (59, 0.05, 0),
        (300, 0.05, 8),
        (1000, 0.05, 38),
        (0, 0.01, None),
        (1, 0.96, 0),
    ],
)
def test_as_many_may_lie_beyond_as_the_binomial_says(images: int, rate: float, most: int | None) -> None:
    assert most_beyond(images, rate, 0.95) == most


@pytest.mark.parametrize("images", range(299, 900, 67))
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_one_more_would_be_too_many(images: int, confidence: float) -> None:
    most = most_beyond(images, 0.02, confidence)
    assert most is not None
    assert exact_chance(images, 0.02, most) <= 1 - confidence < exact_chance(images, 0.02, most + 1)
    assert chance_of_excess(images, 0.02, most) == pytest.approx(exact_chance(images, 0.02, most))


@pytest.mark.parametrize(("rate", "images"), [(0.01, 299), (0.001, 2995), (0.05, 59), (0.96, 1), (0.5, 5)])
def test_the_fewest_images_and_the_lowest_rate_agree(rate: float, images: int) -> None:
    assert fewest_images(rate, 0.95) == images
    assert lowest_rate(images, 0.95) <= rate
    assert images == 1 or lowest_rate(images - 1, 0.95) > rate


def test_no_image_promises_nothing() -> None:
    assert lowest_rate(0, 0.95) == 1.0


@pytest.mark.parametrize(("rate", "confidence"), [(0, 0.95), (1, 0.95), (-1, 0.95), (math.nan, 0.95), (0.01, 1)])
def test_shares_outside_of_0_to_1_are_refused(rate: float, confidence: float) -> None:
    with pytest.raises(UsageError, match="expected a share between 0 and 1"):
        most_beyond(1000, rate, confidence)


def test_thresholds_are_scores_with_exactly_so_many_beyond() -> None:
    scores = np.random.Generator(np.random.PCG64(1)).random(50)
    for most in (0, 3, 49):
        assert int((scores > fake_above(scores, most)).sum()) == most
        assert int((scores < real_below(scores, most)).sum()) == most


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        (0.8, 0.2, (0.8, 0.2)),  # unsure lies between
        (0.5, 0.5, (0.5, 0.5)),
        (0.2, 0.8, (0.5, 0.5)),
        (0.01, 0.5, (0.0914, 0.0914)),  # the midpoint in logits, not of the probabilities
        (0.0, 1.0, (0.5, 0.5)),
        (0.0, 0.3, (0.0, 0.0)),  # the midpoint is minus infinity
        (0.3, 1.0, (1.0, 1.0)),
        (1e-320, 1e-310, (1e-310, 1e-310)),
    ],
)
def test_crossing_thresholds_move_to_the_midpoint(above: float, below: float, expected: tuple[float, float]) -> None:
    moved = uncrossed(above, below)
    assert moved == pytest.approx(expected, rel=0.01)
    assert moved[0] >= above
    assert moved[1] <= below
