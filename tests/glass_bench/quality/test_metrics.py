"""Quality figures against numbers worked by hand and against scikit-learn."""

import numpy as np
import pytest
from glass_bench.quality.metrics import auc, calibration_error, operating_point, plain_figures, quality, weighted_scores
from glass_bench.quality.resampled import FIGURES, Resampled
from sklearn import metrics

FAKE = np.array([True, True, True, False, False])
PROBABILITY = np.array([0.9, 0.8, 0.3, 0.6, 0.1])


def test_the_table_worked_by_hand() -> None:
    found = quality(FAKE, PROBABILITY, threshold=0.5, fpr_limit=0.0, resamples=50, seed=1)
    assert (found.images, found.fake, found.real) == (5, 3, 2)
    assert found.confusion == ((2, 1), (1, 1))
    assert found.accuracy.value == pytest.approx(3 / 5)
    assert found.auc is not None
    assert found.auc.value == pytest.approx(5 / 6)  # of six pairs only (0.3, 0.6) is in the wrong order
    # Fake: precision 2/3, recall 2/3; real: 1/2 and 1/2; weights 3/5 and 2/5.
    assert found.precision.value == pytest.approx(0.6)
    assert found.recall.value == pytest.approx(0.6)
    assert found.f1.value == pytest.approx(0.6)
    assert found.confidence_right == pytest.approx((0.9 + 0.8 + 0.9) / 3)
    assert found.confidence_wrong == pytest.approx((0.7 + 0.6) / 2)


def test_calibration_error_worked_by_hand() -> None:
    # Confidences 0.9, 0.8, 0.7, 0.6, 0.9 of labels right, right, wrong, wrong, right, in 15 bins: 0.9 and 0.9 share
    # one, the others stand alone: (2 * 0.1 + 0.2 + 0.7 + 0.6) / 5.
    assert calibration_error(FAKE, PROBABILITY, PROBABILITY >= 0.5) == pytest.approx(1.7 / 5)


def test_perfect_calibration_has_no_error() -> None:
    fake = np.array([True] * 3 + [False])
    assert calibration_error(fake, np.full(4, 0.75), np.full(4, True)) == pytest.approx(0)


def test_calibration_error_is_the_textbook_loop() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    probability = generator.uniform(0, 1, 500)
    fake = generator.uniform(0, 1, 500) < probability**2
    called = probability >= 0.5
    confidence, right = np.where(called, probability, 1 - probability), called == fake
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(fake, probability, called) == pytest.approx(expected)


def test_the_figures_are_scikit_learns() -> None:
    generator = np.random.Generator(np.random.PCG64(2))
    fake = generator.uniform(size=200) < 0.4
    probability = np.clip(0.25 * fake + generator.normal(0.4, 0.2, 200), 0, 1)
    called = probability >= 0.5
    found = quality(fake, probability, threshold=0.5, fpr_limit=0.1, resamples=0, seed=0)
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(fake, called))
    assert found.auc is not None
    assert found.auc.value == pytest.approx(metrics.roc_auc_score(fake, probability))
    assert found.f1.value == pytest.approx(metrics.f1_score(fake, called, average="weighted"))
    precision, recall, _ = weighted_scores(fake, called)
    assert precision == pytest.approx(metrics.precision_score(fake, called, average="weighted"))
    assert recall == pytest.approx(metrics.recall_score(fake, called, average="weighted"))


def test_the_operating_point_keeps_its_false_positives() -> None:
    strict = operating_point(FAKE, PROBABILITY, 0.0)
    # Above 0.6, the highest real one, lie 0.9 and 0.8: two of three fakes found, both real ones cleared.
    assert (strict.threshold, strict.false_positive_rate) == (0.8, 0)
    assert strict.true_positive_rate == pytest.approx(2 / 3)
    assert strict.accuracy == pytest.approx(4 / 5)
    half = operating_point(FAKE, PROBABILITY, 0.5)
    assert (half.threshold, half.true_positive_rate) == (0.3, 1)


def test_one_class_has_no_auc() -> None:
    found = quality(np.array([True, True]), np.array([0.9, 0.2]), threshold=0.5, fpr_limit=0.1, resamples=5, seed=0)
    assert (found.auc, found.operating_point) == (None, None)
    assert np.isnan(auc(np.array([True]), np.array([0.5])))


def test_intervals_hold_their_value_and_are_seeded() -> None:
    first, second = (quality(FAKE, PROBABILITY, threshold=0.5, fpr_limit=0.1, resamples=200, seed=7) for _ in range(2))
    assert first == second
    assert first.accuracy.low <= first.accuracy.value <= first.accuracy.high


# Images, share of fakes, and decimals to which probabilities are rounded: ties, classes that a resample misses, one
# class alone, one image.
RESAMPLED = [(40, 0.5, 9), (40, 0.5, 1), (3, 0.4, 9), (6, 0.2, 0), (5, 1.0, 9), (5, 0.0, 2), (1, 1.0, 9), (2, 0.5, 9)]


@pytest.mark.parametrize(("count", "share", "decimals"), RESAMPLED)
def test_the_intervals_are_those_of_one_resample_after_the_other(count: int, share: float, decimals: int) -> None:
    generator = np.random.Generator(np.random.PCG64(count))
    fake = np.arange(count) < round(share * count)
    probability = np.round(np.clip(0.2 * fake + generator.uniform(0, 0.8, count), 0, 1), decimals).astype(np.float64)
    called = probability >= 0.5
    found = quality(fake, probability, threshold=0.5, fpr_limit=0.1, resamples=60, seed=5)
    rows, draws = np.random.Generator(np.random.PCG64(5)), []
    for _ in range(60):
        row = rows.integers(0, count, count)
        draws.append(plain_figures(fake[row], probability[row], called[row]))
    for name, value, resamples in zip(
        FIGURES, plain_figures(fake, probability, called), np.array(draws).T, strict=True
    ):
        interval = getattr(found, name)
        if interval is None:
            assert (name, fake.all() or not fake.any()) == ("auc", True)
            continue
        defined = resamples[np.isfinite(resamples)]
        bounds = np.percentile(defined, (2.5, 97.5)) if 2 * len(defined) >= 60 else (np.nan, np.nan)
        found_here = (interval.value, interval.low, interval.high)
        assert found_here == pytest.approx((value, *bounds), abs=1e-12, nan_ok=True), name


def test_figures_of_parts_of_the_resamples_are_those_of_all() -> None:
    rows = np.random.Generator(np.random.PCG64(3)).integers(0, 5, (7, 5))
    resampled = Resampled(FAKE, PROBABILITY, PROBABILITY >= 0.5)
    parts = np.concatenate([resampled.figures(rows[:3]), resampled.figures(rows[3:])])
    assert np.array_equal(resampled.figures(rows), parts, equal_nan=True)
