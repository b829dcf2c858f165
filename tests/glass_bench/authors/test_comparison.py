"""The authors' way against ours: same probabilities, every image once, and figures that follow from the record."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from glass_bench.authors import comparison as of_authors
from glass_bench.authors.comparison import SIZE_CLASSES, THEIRS, AuthorsComparison, compare_with_authors, whole_passes
from glass_bench.authors.report import RECORD, ratios, report, shared_bound, write_report
from glass_bench.measure.images import find_bench_images
from glass_bench.measure.systems.base import STAGES

from glass_rt.progress import silent
from tests.support import Bundles, write_picture

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def comparison(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> AuthorsComparison:
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(4)
    for name, height, width in (("small.jpg", 480, 640), ("middle.jpg", 1300, 1700)):
        write_picture(folder / name, random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    images, _ = find_bench_images(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_authors, "STREAM", 3)
        patch.setattr(of_authors, "ENGINE_ALONE_S", 0.05)
        return compare_with_authors([bundles("mobilenet_v3_small").folder], images, 2, "glass-rt bench authors", silent)


def test_both_sides_say_the_same_of_the_same_images(comparison: AuthorsComparison) -> None:
    theirs, ours = comparison.sides
    assert (theirs.name, theirs.backend) == (THEIRS, "pytorch")
    assert (
        [image.name for image in theirs.images] == [image.name for image in ours.images] == ["small.jpg", "middle.jpg"]
    )
    for one, other in zip(theirs.images, ours.images, strict=True):
        assert one.probability_fake == pytest.approx(other.probability_fake, abs=1e-4)


def test_stages_make_up_the_time_of_an_image(comparison: AuthorsComparison) -> None:
    for side in comparison.sides:
        for image in side.images:
            assert set(image.stages_ms) <= set(STAGES)
            assert 0 < sum(image.stages_ms.values()) <= image.total_ms[-1]
            assert len(image.total_ms) == comparison.repeats


def test_throughput_is_given_for_the_sizes_that_there_are(comparison: AuthorsComparison) -> None:
    for side in comparison.sides:
        assert list(side.stream) == [size.name for size in SIZE_CLASSES[:2]]
        assert all(len(rates) == comparison.repeats and min(rates) > 0 for rates in side.stream.values())
    ours = comparison.sides[1]
    assert min(*ours.decode_alone, *ours.engine_alone) > 0


def test_the_report_is_made_of_the_record(comparison: AuthorsComparison, tmp_path: Path) -> None:
    text = write_report(comparison, tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    found = ratios(comparison.sides)["mobilenet_v3_small"]["onnxruntime fp32"]
    assert record["ratios"]["mobilenet_v3_small"]["onnxruntime fp32"] == pytest.approx(found, rel=1e-4)
    assert "### 2 to 8 MP" in text
    assert "### 8 MP and more" not in text
    assert str(tmp_path.parent) not in text + json.dumps(record)


@pytest.mark.parametrize(("count", "streamed"), [(1, 12), (5, 15), (12, 12), (13, 13), (30, 30)])
def test_a_stream_has_every_image_of_its_class_equally_often(count: int, streamed: int) -> None:
    paths = [f"{number}.jpg" for number in range(count)]
    found = whole_passes(paths, 12)
    assert len(found) == streamed
    assert {found.count(path) for path in paths} == {streamed // count}


def test_headings_name_the_largest_class_that_there_is(comparison: AuthorsComparison) -> None:
    text = report(comparison)
    assert "### Where the time of one image goes (2 to 8 MP, medians)" in text
    assert "### The pipeline beside its parts (2 to 8 MP, images per second)" in text
    assert "8 MP and more" not in text


def test_memory_that_the_system_does_not_tell_is_no_number(comparison: AuthorsComparison) -> None:
    sides = tuple(replace(side, peak_mb=None, opened_mb=None) for side in comparison.sides)
    text = report(replace(comparison, sides=sides))
    row = next(line for line in text.split("### Memory")[1].splitlines() if line.startswith("| onnxruntime fp32"))
    assert [cell.strip() for cell in row.split("|")][2:5] == ["-", "", "-"]


@pytest.mark.parametrize(("version", "said"), [("2.15.0+cu132", True), ("2.15.0+cpu", False)])
def test_the_memory_of_a_pytorch_with_cuda_is_explained(
    comparison: AuthorsComparison, version: str, said: bool
) -> None:
    packages = {**comparison.machine.packages, "torch": version}
    text = report(replace(comparison, machine=replace(comparison.machine, packages=packages)))
    assert ("includes the CUDA libraries that its default wheel maps" in text) == said


def test_parts_that_share_the_cores_are_bound_by_the_share_of_each() -> None:
    """Decoding 30 a second and an engine of 10: a quarter and three quarters of the cores, 7.5 a second each."""
    assert shared_bound(30, 10) == pytest.approx(7.5)
