"""A decision in words promises no more than holds."""

from __future__ import annotations

import pytest

from glass_rt.decision.calibration import Guarantee, Thresholds
from glass_rt.decision.decide import BETWEEN, SEED_CHOSEN, Decision
from glass_rt.results.decision_text import guarantee_in_words, notices_of, thresholds_in_words


@pytest.mark.parametrize(
    ("guarantee", "words"),
    [
        (Guarantee(0.95, fpr=0.01, images=300, above=0), "at most 0.01 of real images called fake (here 0 of 300)"),
        (Guarantee(0.95, fpr=0.01004, images=300, above=0), "at most 0.0101 of real images"),  # not 0.01
        (Guarantee(0.95, fnr=0.05, fakes=59, below=0), "at most 0.05 of fakes called real (here 0 of 59)"),
        (Guarantee(0.95, fpr=0.01, images=300, above=0), "confidence 0.95"),
        (Guarantee(0.9999999, fpr=0.01, images=3000, above=0), "confidence 0.999999"),  # not 1
        (Guarantee(1 - 0.05 / 6, fpr=0.01, images=600, above=0), "confidence 0.991666"),
    ],
)
def test_rates_are_rounded_up_and_confidences_down(guarantee: Guarantee, words: str) -> None:
    assert words in guarantee_in_words(guarantee)


@pytest.mark.parametrize(
    ("above", "words"),
    [(0.8, "0.8,"), (0.123456, "0.1235,"), (0.999987, "0.99999,"), (0.9999963, "0.999996,"), (1.0, "1,")],
)
def test_a_threshold_below_1_does_not_read_as_1(above: float, words: str) -> None:
    assert f"fake above {words}" in thresholds_in_words(Thresholds(above, None))


BOTH, GIVEN = Thresholds(0.9, 0.1), Guarantee(0.95, fpr=0.01, images=300, above=0, fnr=0.05, fakes=59, below=0)


@pytest.mark.parametrize(
    ("decision", "notices"),
    [
        (Decision("fake", "calibrated", thresholds=BOTH, guarantee=GIVEN), ()),
        (Decision("unsure", "calibrated", reason=BETWEEN, thresholds=BOTH, guarantee=GIVEN), ()),
        (Decision("fake", "calibrated", reason=SEED_CHOSEN, thresholds=BOTH), (SEED_CHOSEN,)),
        (Decision("unsure", "calibrated", reason=BETWEEN, thresholds=BOTH), (SEED_CHOSEN,)),
        (Decision("unsure", "calibrated", reason="too few images"), ()),  # there was nothing to lose
    ],
)
def test_a_guarantee_that_a_seed_voids_is_told_whatever_the_label(decision: Decision, notices: tuple[str, ...]) -> None:
    assert notices_of(decision) == notices
