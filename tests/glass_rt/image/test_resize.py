"""Both resizes equal the libraries that the models were trained with."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from glass_bench.sample import landscape
from numpy.typing import NDArray

from glass_rt.image.encoded import load
from glass_rt.image.resize import resize_antialiased, resize_pillow
from glass_rt.image.views import baseline_view, global_view
from tests.support import GOLDEN

NAMES = tuple(json.loads((GOLDEN / "global_views.json").read_text()))
SIZES = (  # height, width
    (1, 1), (1, 5000), (5000, 1), (17, 31), (223, 224), (224, 224), (224, 225), (225, 300), (448, 448), (500, 224),
    (447, 1001), (3000, 900),
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_views_equal_the_golden_ones(name: str, real_images: Path) -> None:
    golden = np.load(GOLDEN / "global_views.npz")
    (path,) = real_images.glob(f"*/*/{name}")
    pixels = load(path).pixels
    assert np.abs(global_view(pixels, 224) - golden[name]).max() <= 0.01
    assert (baseline_view(pixels, 224) == golden[f"{name}.baseline"]).all()


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def pixels(request: pytest.FixtureRequest) -> Iterator[NDArray[np.uint8]]:
    height, width = request.param
    yield np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_float_resize_equals_torch(pixels: NDArray[np.uint8]) -> None:
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(planes, (224, 224), mode="bilinear", antialias=True)
    found = resize_antialiased(pixels, 224)
    assert found.dtype == np.float32
    assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).max() <= 0.01


def test_the_uint8_resize_is_bit_equal_to_pillow(pixels: NDArray[np.uint8]) -> None:
    expected = np.asarray(PIL.Image.fromarray(pixels).resize((224, 224), PIL.Image.Resampling.BILINEAR))
    assert (resize_pillow(pixels, 224) == expected).all()


def test_other_sizes_than_224_work_too() -> None:
    picture = landscape(700, 500, seed=3)
    expected = PIL.Image.fromarray(picture).resize((64, 64), PIL.Image.Resampling.BILINEAR)
    assert (resize_pillow(picture, 64) == np.asarray(expected)).all()
    assert np.abs(resize_antialiased(picture, 64) - resize_pillow(picture, 64)).max() <= 1.0


@pytest.mark.parametrize(("height", "width"), [(4000, 6000), (3000, 4000), (5712, 4284), (1000, 1500), (600, 800)])
def test_an_image_takes_few_calls_of_numpy(monkeypatch: pytest.MonkeyPatch, height: int, width: int) -> None:
    """Each gives the interpreter's lock back and takes it again, which threads on many cores wait for."""
    calls = []

    def counted(name: str) -> None:
        real = getattr(np, name)

        def call(*given: object, **named: object) -> object:
            calls.append(name)
            return real(*given, **named)

        monkeypatch.setattr(np, name, call)

    pixels = np.zeros((height, width, 3), np.uint8)
    for name in ("matmul", "copyto", "add"):
        counted(name)
    resize_antialiased(pixels, 224)
    assert 4 < len(calls) < 400
