"""Scores that no calibration can be made of, and figures of those that it can."""

from __future__ import annotations

import math

import numpy as np
import pytest
from glass_calibrate.fitting import area, check_scores
from glass_calibrate.samples import Sample
from sklearn.metrics import roc_auc_score

from glass_rt.decision.tiers import InputFacts
from glass_rt.errors import CalibrationInvalid
from glass_rt.labelled.labels import LabelledImage


def sample(name: str, fake: bool, score: float) -> Sample:
    return Sample(name, fake, score, InputFacts(100, 100, "png"), name, False, LabelledImage(name, name, fake))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([(True, 0.5), (False, 0.5), (False, 0.5)], "all 3 images have the score 0.5: the engine tells nothing apart"),
        ([(True, 0.5), (False, math.nan)], "1 scores are no probabilities, the first that of 1.png"),
        ([(True, 0.5), (False, math.inf)], "no probabilities"),
        ([(True, 0.5), (False, -0.1)], "no probabilities"),
        ([(True, 0.5), (True, 0.6)], "there is no real image with a score"),
        ([(False, 0.5), (False, 0.6)], "there is no fake image with a score"),
        ([], "there is no real image with a score"),
    ],
)
def test_scores_that_say_nothing_are_refused(scores: list[tuple[bool, float]], message: str) -> None:
    with pytest.raises(CalibrationInvalid, match=message):
        check_scores([sample(f"{number}.png", *one) for number, one in enumerate(scores)])


@pytest.mark.parametrize("levels", [3, 10**6])
def test_the_area_is_that_of_scikit_learn(levels: int) -> None:
    generator = np.random.Generator(np.random.PCG64(2))
    fake = generator.random(300) < 0.3
    raw = np.rint((generator.random(300) + 0.2 * fake) * levels) / levels
    assert area(raw, fake) == pytest.approx(roc_auc_score(fake, raw))
