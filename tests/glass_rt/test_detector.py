"""A verdict depends on the image, the seed and the bundle, and on nothing else."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from glass_bench.sample import landscape

from glass_rt import DetectOptions, Detector, Failure, Verdict
from glass_rt.errors import ImageError, ImageFormatError, ImageNotReadable, UsageError
from glass_rt.image.encoded import ImageSource, load
from glass_rt.image.sampling import default_seed
from tests.support import Bundles


@pytest.fixture
def detector(bundles: Bundles) -> Iterator[Detector]:
    with Detector.open(bundles("mobilenet_v3_small", crops=6).folder) as opened:
        yield opened


def verdicts(results: Iterator[Verdict | Failure]) -> list[Verdict]:
    found = list(results)
    assert all(isinstance(result, Verdict) for result in found), found
    return [result for result in found if isinstance(result, Verdict)]


@pytest.mark.parametrize(
    ("backbone", "count"), [pytest.param(*case, marks=pytest.mark.slow) for case in (("resnet18", 8), ("vit_b16", 1))]
)
def test_an_image_alone_in_a_batch_and_after_a_restart(
    bundles: Bundles, pictures: tuple[Path, ...], backbone: str, count: int
) -> None:
    folder = bundles(backbone).folder
    options = DetectOptions(crops=4)
    with Detector.open(folder) as detector:
        alone = [detector.detect(path, options) for path in pictures[:count]]
        together = verdicts(detector.detect_many(pictures, options))
    with Detector.open(folder, batch=3) as restarted:
        again = verdicts(restarted.detect_many(reversed(pictures[:count]), options))[::-1]
    assert len({(verdict.width, verdict.height) for verdict in together}) == 8
    for others in (together[:count], again):
        for one, other in zip(alone, others, strict=True):
            assert [(c.left, c.top) for c in one.crops] == [(c.left, c.top) for c in other.crops]
            assert other.probability_fake == pytest.approx(one.probability_fake, abs=1e-5)
            assert [c.attention for c in other.crops] == pytest.approx([c.attention for c in one.crops], abs=1e-4)


def test_a_path_its_bytes_and_its_pixels_are_one_image(detector: Detector, pictures: tuple[Path, ...]) -> None:
    path = pictures[0]
    by_path = detector.detect(path)
    by_bytes = detector.detect(path.read_bytes())
    by_array = detector.detect(load(path).pixels, DetectOptions(seed=by_path.seed))
    assert by_path.seed == default_seed(by_path.sha256)
    assert by_path.path == str(path)
    assert by_bytes.path is None
    assert by_path.crops == by_bytes.crops == by_array.crops
    assert by_path.logits == by_bytes.logits == by_array.logits
    assert detector.detect(load(path).pixels).seed == detector.detect(load(path).pixels.copy()).seed


def test_a_verdict_says_what_it_must(detector: Detector, pictures: tuple[Path, ...]) -> None:
    verdict = detector.detect(pictures[0], DetectOptions(seed=5, threshold=0.25))
    assert verdict.trained is False
    assert verdict.notices[0].startswith("UNTRAINED WEIGHTS")
    assert verdict.label == "none"
    assert sum(verdict.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert sum(crop.attention for crop in verdict.crops) == pytest.approx(1, abs=1e-5)
    assert (verdict.stratified, verdict.grid, verdict.sampling, verdict.seed) == (True, 5, "stratified", 5)
    times = verdict.timings_ms
    assert times.total == pytest.approx(times.decode + times.views + times.engine + times.aggregate)


def test_notices_name_what_departs_from_training(detector: Detector, pictures: tuple[Path, ...]) -> None:
    stratified, tiny = detector.detect(pictures[0]), detector.detect(pictures[6])
    assert stratified.stratified is True
    assert not any("stratified" in notice for notice in stratified.notices)
    assert tiny.stratified is False
    assert any(notice.startswith("not stratified: 1 x 1 has too few cells") for notice in tiny.notices)
    assert any("padded with black" in notice for notice in tiny.notices)
    assert tiny.crops[0].width == tiny.crops[0].height == 1
    more = detector.detect(pictures[0], DetectOptions(crops=9))
    assert any(notice == "9 crops; this model is trained with 6" for notice in more.notices)


def test_one_crop_has_no_effect_to_speak_of(detector: Detector, pictures: tuple[Path, ...]) -> None:
    (crop,) = detector.detect(pictures[0], DetectOptions(crops=1)).crops
    assert crop.attention == 1
    assert crop.effect is None


def test_tiles_look_at_every_window(detector: Detector, pictures: tuple[Path, ...]) -> None:
    verdict = detector.detect(pictures[0], DetectOptions(sampling="tiles"))  # 1600 x 1200
    assert len(verdict.crops) == 8 * 6
    assert (verdict.sampling, verdict.seed, verdict.stratified) == ("tiles", None, False)


@pytest.mark.slow
def test_the_resize_only_model_goes_through_the_same_code(bundles: Bundles, pictures: tuple[Path, ...]) -> None:
    with Detector.open(bundles("mobilenet_v3_small", "resize").folder) as detector:
        results = verdicts(detector.detect_many(pictures))
    for verdict in results:
        assert verdict.crops == ()
        assert (verdict.seed, verdict.sampling, verdict.stratified, verdict.grid) == (None, None, None, None)
        assert verdict.engine.architecture == "resize"


def test_results_come_in_order_with_failures_in_their_place(detector: Detector, pictures: tuple[Path, ...]) -> None:
    sources: list[ImageSource] = [
        pictures[0],
        "absent.jpg",
        b"",
        pictures[1],
        b"text",
        pictures[2],
        np.zeros((3, 3), np.uint8),
    ]
    results = list(detector.detect_many(sources))
    assert [type(result) for result in results] == [Verdict, Failure, Failure, Verdict, Failure, Verdict, Failure]
    errors = [result.error for result in results if isinstance(result, Failure)]
    assert [type(error) for error in errors] == [ImageNotReadable, ImageFormatError, ImageFormatError, ImageFormatError]
    assert results[1].to_json() == {
        "schema": 2,
        "path": "absent.jpg",
        "error": {"kind": "not_readable", "message": "no such file"},
    }


def test_images_are_taken_lazily(detector: Detector) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield landscape(300, 260, seed=taken)

    results = detector.detect_many(endless())
    assert isinstance(next(results), Verdict)
    assert taken < 100
    assert list(detector.detect_many([])) == []


def test_detect_raises_what_detect_many_returns(detector: Detector) -> None:
    with pytest.raises(ImageError, match="no such file"):
        detector.detect("absent.jpg")


@pytest.mark.parametrize(
    "wrong",
    [{"crops": 0}, {"seed": -1}, {"seed": 2**64}, {"threshold": 1.5}, {"sampling": "random"}, {"max_pixels": 0},
     {"sampling": "tiles", "crops": 3}],
)  # fmt: skip
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        DetectOptions(**wrong)  # type: ignore[arg-type]


def test_a_batch_past_the_bundles_is_refused(bundles: Bundles) -> None:
    with pytest.raises(UsageError, match=r"takes 1\.\.64\. Rebuild with --max-batch"):
        Detector.open(bundles("mobilenet_v3_small").folder, batch=65)
