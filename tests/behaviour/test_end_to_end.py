"""An image file through the built engines equals the same file through the authors' plain PyTorch pipeline."""

from pathlib import Path

import pytest
from glass_export.backbones import find_backbone
from glass_export.model import Glass, ResizeOnly, build_model, checkpoint_module
from glass_export.untrained import fill_untrained

from glass_rt import DetectOptions, Detector
from tests.reference_pipeline import judge_glass, judge_resize
from tests.support import Bundles

SEED = 606
REAL = (  # a landscape and a progressive portrait photograph, a small one, a PNG of a generator
    "real/wallpapers/backgrounds_Sunset_by_the_Pier_b13f5a16.jpg",
    "real/test_assets/text_book_beside_flowers_358bd1a1.jpg",
    "real/metadata_extractor_images/jpg_Nikon_D40_191db745.jpg",
    "real/Image_Dataset/B2_09e827b0.jpg",
    "fake/Qwen_Image/assets_readme_en_02c72cf4.png",
)


def model(backbone: str, architecture: str) -> Glass | ResizeOnly:
    built = build_model(find_backbone(backbone), architecture)
    fill_untrained(checkpoint_module(built))
    return built


def compare_glass(bundles: Bundles, backbone: str, paths: list[Path]) -> None:
    reference = model(backbone, "glass")
    assert isinstance(reference, Glass)
    with Detector.open(bundles(backbone).folder) as detector:
        for path in paths:
            verdict = detector.detect(path, DetectOptions(seed=SEED))
            expected = judge_glass(reference, path, verdict.trained_crops, SEED)
            assert [(crop.top, crop.left) for crop in verdict.crops] == expected.corners
            assert list(verdict.probabilities.values()) == pytest.approx(expected.probabilities, abs=1e-4)
            assert [crop.attention for crop in verdict.crops] == pytest.approx(expected.attention, abs=1e-4)


@pytest.mark.parametrize(("backbone", "count"), [("vit_b16", 2), ("resnet50", 5), ("convnext_tiny", 5)])
def test_glass_on_real_images(bundles: Bundles, real_images: Path, backbone: str, count: int) -> None:
    compare_glass(bundles, backbone, [real_images / name for name in REAL[:count]])


def test_glass_on_generated_images(bundles: Bundles, pictures: tuple[Path, ...]) -> None:
    compare_glass(bundles, "resnet18", list(pictures))


def test_resize_only_on_real_images(bundles: Bundles, real_images: Path) -> None:
    compare_resize(bundles, "resnet50", [real_images / name for name in REAL])


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small"])
def test_resize_only_on_generated_images(bundles: Bundles, pictures: tuple[Path, ...], backbone: str) -> None:
    compare_resize(bundles, backbone, list(pictures))


def compare_resize(bundles: Bundles, backbone: str, paths: list[Path]) -> None:
    reference = model(backbone, "resize")
    assert isinstance(reference, ResizeOnly)
    with Detector.open(bundles(backbone, "resize").folder) as detector:
        for path in paths:
            verdict = detector.detect(path)
            assert list(verdict.probabilities.values()) == pytest.approx(judge_resize(reference, path), abs=1e-4)
