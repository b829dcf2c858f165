"""Departures from the trained K, on purpose: crops auto, draws. And the pipeline that carries them."""

import threading
from pathlib import Path

import numpy as np
import pytest

from glass_rt import DetectOptions, Detector, Verdict
from glass_rt.image.encoded import ImageSource
from glass_rt.inference.judgement import jackknife_error
from glass_rt.machine.limits.byte_budget import ByteBudget
from tests.support import Bundles

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def detector(bundles: Bundles) -> Detector:
    return Detector.open(bundles("mobilenet_v3_small", crops=6).folder)


def test_auto_looks_at_a_prefix_of_the_crops_and_computes_none_twice(
    detector: Detector, pictures: tuple[Path, ...]
) -> None:
    everything = detector.detect(pictures[0], DetectOptions(seed=3))
    early = detector.detect(pictures[0], DetectOptions(seed=3, crops="auto", margin=1e-6))
    late = detector.detect(pictures[0], DetectOptions(seed=3, crops="auto", margin=1e9))
    prefix = detector.detect(pictures[0], DetectOptions(seed=3, crops=6))
    assert len(early.crops) == 2
    corners = [(crop.left, crop.top) for crop in everything.crops]
    assert [(crop.left, crop.top) for crop in early.crops] == corners[:2]
    assert (late.crops, late.probability_fake) == (everything.crops, everything.probability_fake)
    assert prefix.probability_fake == everything.probability_fake
    assert any(notice.startswith("2 crops; this model is trained with 6") for notice in early.notices)


def test_auto_stops_by_the_margin_it_states(detector: Detector, pictures: tuple[Path, ...]) -> None:
    """Whatever it stopped at: past the margin, or at the maximum."""
    options = DetectOptions(crops="auto", margin=3.0)
    results = list(detector.detect_many(pictures, options))
    for verdict in results:
        assert isinstance(verdict, Verdict)
        without = np.array([verdict.probability_fake - (crop.effect or 0.0) for crop in verdict.crops], np.float32)
        past = abs(verdict.probability_fake - 0.5) > 3.0 * jackknife_error(without)
        assert past or len(verdict.crops) == 6
        assert verdict.crops == detector.detect(str(verdict.path), options).crops


def test_the_jackknife_error_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).standard_normal(12).astype(np.float32)
    without = np.array([np.delete(values, k).mean() for k in range(12)], np.float32)
    assert jackknife_error(without) == pytest.approx(values.std(ddof=1) / np.sqrt(12), rel=1e-4)
    assert jackknife_error(without[:1]) == float("inf")


def test_draws_are_the_mean_of_independent_samplings(detector: Detector, pictures: tuple[Path, ...]) -> None:
    singles = [detector.detect(pictures[0], DetectOptions(seed=seed)) for seed in (10, 11, 12)]
    drawn = detector.detect(pictures[0], DetectOptions(seed=10, draws=3))
    probabilities = [single.probability_fake for single in singles]
    assert drawn.draws is not None
    assert drawn.draws.probabilities_fake == pytest.approx(probabilities, abs=1e-7)
    assert drawn.probability_fake == pytest.approx(np.mean(probabilities), abs=1e-6)
    assert drawn.draws.standard_deviation == pytest.approx(np.std(probabilities, ddof=1), abs=1e-6)
    assert len(drawn.crops) == 18
    assert sum(crop.attention for crop in drawn.crops) == pytest.approx(1, abs=1e-5)
    assert (drawn.crops[6].left, drawn.crops[6].top) == (singles[1].crops[0].left, singles[1].crops[0].top)
    assert any(notice.startswith("mean of 3 draws") for notice in drawn.notices)


@pytest.mark.parametrize("workers", [1, 8])
def test_workers_do_not_change_a_verdict(detector: Detector, pictures: tuple[Path, ...], workers: int) -> None:
    sources: list[ImageSource] = [*pictures, "absent.png", *reversed(pictures)]
    with detector.pipeline(workers) as pipeline:
        results = list(pipeline.run(sources, DetectOptions()))
    assert [getattr(result, "path", None) for result in results] == [str(source) for source in sources]
    for source, result in zip(sources, results, strict=True):
        if isinstance(result, Verdict):
            alone = detector.detect(source)
            assert result.crops == alone.crops  # attention and effect bit for bit
            assert result.logits == alone.logits


def test_a_consumer_that_leaves_early_leaves_nothing_running(detector: Detector, pictures: tuple[Path, ...]) -> None:
    import threading

    results = detector.detect_many(list(pictures) * 4)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("glass-rt decode")]


def test_the_budget_lets_one_too_large_through_alone() -> None:
    budget = ByteBudget()
    with budget.hold(1000, limit=100):
        assert budget._held == 1000
    with budget.hold(60, limit=100), budget.hold(40, limit=100):
        assert budget._held == 100
    assert budget._held == 0


def test_whoever_does_not_fit_waits_for_room() -> None:
    budget, order = ByteBudget(), list[str]()

    def second() -> None:
        with budget.hold(50, limit=100):
            order.append("second")

    thread = threading.Thread(target=second)
    with budget.hold(60, limit=100):
        thread.start()
        thread.join(0.2)
        order.append("first done")
    thread.join()
    assert order == ["first done", "second"]
