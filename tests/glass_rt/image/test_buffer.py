"""Decoding into memory that is used again gives the pixels that decoding into new memory gives."""

from pathlib import Path

import numpy as np
import pytest

from glass_rt.image import buffer as buffer_module
from glass_rt.image.buffer import PixelBuffer
from glass_rt.image.encoded import load
from tests.support import write_picture

SHAPES = ((40, 60), (90, 70), (30, 30), (90, 70))


@pytest.fixture
def jpegs(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(8)
    paths = [tmp_path / f"{number}.jpg" for number in range(len(SHAPES))]
    for path, shape in zip(paths, SHAPES, strict=True):
        write_picture(path, random.integers(0, 256, (*shape, 3), dtype=np.uint8))
    return paths


@pytest.mark.parametrize("largest", [1 << 26, 10_000])
def test_images_decoded_into_the_same_memory_are_those_decoded_into_their_own(
    jpegs: list[Path], largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer_module, "LARGEST", largest)
    buffer = PixelBuffer()
    for path in jpegs:
        here, there = load(path, buffer=buffer), load(path)
        assert here.info == there.info
        assert np.array_equal(here.pixels, there.pixels)


def test_the_memory_is_kept_up_to_the_limit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_module, "LARGEST", 100)
    buffer = PixelBuffer()
    first = buffer.take(80)
    assert np.shares_memory(first, buffer.take(60))
    assert not np.shares_memory(first, buffer.take(101))
