"""The calibrated probability and its figures, on scores whose true probability is known."""

from __future__ import annotations

import numpy as np
import pytest
from glass_calibrate.probability import (
    Flags,
    Floats,
    calibrated,
    fit_curve,
    fit_line,
    logit,
    out_of_fold,
)
from glass_calibrate.scoring import score_probabilities

from glass_rt.decision.probability import ProbabilityCurve


def known(fakes: int, reals: int, seed: int = 4) -> tuple[Floats, Flags, Floats]:
    """Raw scores, whether each is of a fake, and the true log-likelihood ratios, which the scores double and shift."""
    generator = np.random.Generator(np.random.PCG64(seed))
    fake = np.arange(fakes + reals) < fakes
    ratio = np.where(fake, generator.normal(1, np.sqrt(2), len(fake)), generator.normal(-1, np.sqrt(2), len(fake)))
    return 1 / (1 + np.exp(-(2 * ratio + 1))), fake, ratio


@pytest.mark.parametrize(("fakes", "reals", "kind"), [(600, 999, "logistic"), (1000, 1500, "isotonic")])
@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_the_curve_finds_the_true_probability(fakes: int, reals: int, kind: str, prior: float) -> None:
    raw, fake, ratio = known(fakes, reals)
    curve = fit_curve(raw, fake, prior)
    assert (curve.kind, curve.prior) == (kind, prior)
    true = 1 / (1 + np.exp(-ratio) * (1 - prior) / prior)
    assert np.abs(calibrated(curve, raw) - true).mean() < 0.05


@pytest.mark.parametrize(("images", "kind"), [(60, "logistic"), (300, "logistic"), (1500, "isotonic")])
@pytest.mark.parametrize("prior", [0.9, 0.1, 0.01, 1e-6])
def test_the_prior_changes_the_odds_and_nothing_else(images: int, kind: str, prior: float) -> None:
    raw, fake, _ = known(images, images)
    even, stated = (calibrated(fit_curve(raw, fake, share), raw) for share in (0.5, prior))
    assert fit_curve(raw, fake, prior).kind == kind
    odds = even / (1 - even) * prior / (1 - prior)
    assert stated == pytest.approx(odds / (1 + odds), rel=1e-3)


def test_temperature_and_bias_are_those_of_the_scores() -> None:
    raw, fake, _ = known(900, 900)
    curve = fit_line(raw, fake, 0.5)
    assert (curve.temperature, curve.bias) == pytest.approx((2.0, -0.5), abs=0.15)


SEPARATE = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])


@pytest.mark.parametrize(
    ("raw", "fake"),
    [
        SEPARATE,
        (1 - SEPARATE[0], SEPARATE[1]),  # turned round
        (np.array([0.0, 0.0, 1.0, 1.0]), SEPARATE[1]),  # saturated
        (np.array([0.5, 0.5, 0.5, 0.500001]), SEPARATE[1]),
        (np.tile(SEPARATE[0], 500), np.tile(SEPARATE[1], 500)),  # isotonic
        (1 - np.tile(SEPARATE[0], 500), np.tile(SEPARATE[1], 500)),
        (np.repeat([0.3, 0.7], 1000), np.arange(2000) >= 1000),
    ],
)
def test_no_curve_falls_and_none_is_certain(raw: Floats, fake: Flags) -> None:
    curve = fit_curve(raw, fake, 0.5)
    values = calibrated(curve, np.linspace(0, 1, 101))
    assert (np.diff(values) >= 0).all()
    assert 0 < values[0] <= values[-1] < 1


def test_the_logit_is_the_runtimes() -> None:
    raw = np.array([0.0, 1e-30, 0.25, 0.5, 1.0])
    curve = ProbabilityCurve("logistic", 0.5, temperature=1.0, bias=0.0)
    assert 1 / (1 + np.exp(-logit(raw))) == pytest.approx(calibrated(curve, raw))


def test_out_of_fold_an_image_and_its_source_are_unseen() -> None:
    raw, fake, _ = known(200, 200)
    sources = np.arange(400) // 4
    held_out = out_of_fold(raw, fake, sources, 0.5, seed=1)
    assert np.isfinite(held_out).all()
    changed = raw.copy()
    changed[sources == 7] = 1e-6  # of one fold
    same = out_of_fold(changed, fake, sources, 0.5, seed=1) == held_out
    assert 0.1 < same.mean() < 0.3  # the fold of source 7, whose curve has not seen it
    assert not same[sources == 7].any()  # for their own scores are others


def test_a_good_probability_scores_well_and_a_useless_one_as_the_prior() -> None:
    raw, fake, ratio = known(2000, 2000)
    true = score_probabilities(1 / (1 + np.exp(-ratio)), fake, 0.5, seed=1)
    boasting = score_probabilities(raw, fake, 0.5, seed=1)
    useless = score_probabilities(np.full(4000, 0.5), fake, 0.5, seed=1)
    assert true.brier.value < boasting.brier.value < useless.brier.value == 0.25
    assert true.cllr.value < boasting.cllr.value < useless.cllr.value == pytest.approx(1.0)
    assert true.cllr.low < true.cllr.value < true.cllr.high
    assert true.ece is not None
    assert boasting.ece is not None
    assert true.ece < 0.03 < 0.1 < boasting.ece
    covered = [found.low <= found.mean <= found.high for found in true.reliability]
    assert len(covered) == 10
    assert sum(covered) >= 8


@pytest.mark.parametrize(("reals", "prior"), [(300, 0.5), (2000, 0.5), (300, 0.2)])
def test_figures_do_not_depend_on_how_many_images_a_class_has(reals: int, prior: float) -> None:
    _, fake, ratio = known(3000, reals)
    probability = 1 / (1 + np.exp(-ratio) * (1 - prior) / prior)
    found = score_probabilities(probability, fake, prior, seed=1)
    assert found.cllr.low < 0.7094 < found.cllr.high  # of these distributions, at any prior
    assert found.ece is not None
    assert found.ece < 0.05


def test_few_images_have_no_calibration_error() -> None:
    raw, fake, _ = known(149, 150)
    assert score_probabilities(raw, fake, 0.5, seed=1).ece is None
    raw, fake, _ = known(150, 150)
    assert score_probabilities(raw, fake, 0.5, seed=1).ece is not None
