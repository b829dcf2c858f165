"""An image file through the built engines equals the same file through the authors' plain PyTorch pipeline."""

from pathlib import Path

import pytest
from glass_export.model import Glass, ResizeOnly

from glass_rt import DetectOptions, Detector
from glass_rt.bundle.bundle import Bundle
from tests.reference_pipeline import judge_glass, judge_resize
from tests.support import Bundles, TorchModels

pytestmark = pytest.mark.slow

SEED = 606
REAL = (  # a landscape and a progressive portrait photograph, a small one, a PNG of a generator
    "real/wallpapers/backgrounds_Sunset_by_the_Pier_b13f5a16.jpg",
    "real/test_assets/text_book_beside_flowers_358bd1a1.jpg",
    "real/metadata_extractor_images/jpg_Nikon_D40_191db745.jpg",
    "real/Image_Dataset/B2_09e827b0.jpg",
    "fake/Qwen_Image/assets_readme_en_02c72cf4.png",
)


def compare_glass(reference: Glass | ResizeOnly, bundle: Bundle, paths: list[Path]) -> None:
    assert isinstance(reference, Glass)
    with Detector.open(bundle.folder) as detector:
        for path in paths:
            verdict = detector.detect(path, DetectOptions(seed=SEED))
            expected = judge_glass(reference, path, verdict.trained_crops, SEED)
            assert [(crop.top, crop.left) for crop in verdict.crops] == expected.corners
            assert list(verdict.probabilities.values()) == pytest.approx(expected.probabilities, abs=1e-4)
            assert [crop.attention for crop in verdict.crops] == pytest.approx(expected.attention, abs=1e-4)


@pytest.mark.parametrize(("backbone", "count"), [("vit_b16", 2), ("resnet50", 5), ("convnext_tiny", 5)])
def test_glass_on_real_images(
    bundles: Bundles, torch_models: TorchModels, real_images: Path, backbone: str, count: int
) -> None:
    compare_glass(torch_models(backbone), bundles(backbone), [real_images / name for name in REAL[:count]])


def test_glass_on_generated_images(bundles: Bundles, torch_models: TorchModels, pictures: tuple[Path, ...]) -> None:
    compare_glass(torch_models("resnet18"), bundles("resnet18"), list(pictures))


def test_resize_only_on_real_images(bundles: Bundles, torch_models: TorchModels, real_images: Path) -> None:
    compare_resize(
        torch_models("resnet50", "resize"), bundles("resnet50", "resize"), [real_images / name for name in REAL]
    )


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small"])
def test_resize_only_on_generated_images(
    bundles: Bundles, torch_models: TorchModels, pictures: tuple[Path, ...], backbone: str
) -> None:
    compare_resize(torch_models(backbone, "resize"), bundles(backbone, "resize"), list(pictures))


def compare_resize(reference: Glass | ResizeOnly, bundle: Bundle, paths: list[Path]) -> None:
    assert isinstance(reference, ResizeOnly)
    with Detector.open(bundle.folder) as detector:
        for path in paths:
            verdict = detector.detect(path)
            assert list(verdict.probabilities.values()) == pytest.approx(judge_resize(reference, path), abs=1e-4)
