"""A window of a delivered picture equals that part of the picture delivered as a whole, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import product

import cv2
import numpy as np
import pytest
from glass_train.delivery.blur import Blur
from glass_train.delivery.delivered import DeliveredImage
from glass_train.delivery.geometry import Crop, Flip
from glass_train.delivery.jpeg import Jpeg, JpegWithTables, Subsampling, Tables
from glass_train.delivery.noise import Noise
from glass_train.delivery.pillow_axis import Filter
from glass_train.delivery.rescale import Rescale, Thumbnail
from glass_train.delivery.step import Size, Step, cut, whole
from glass_train.delivery.webp import WebP
from PIL import Image

from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box

SUBSAMPLINGS: tuple[Subsampling, ...] = ("4:4:4", "4:2:2", "4:2:0")
FILTERS: tuple[Filter, ...] = ("box", "bilinear", "bicubic", "lanczos")

TABLES: Tables = tuple(3 + 5 * i % 40 for i in range(64)), tuple(9 + 7 * i % 60 for i in range(64))

# Height and width: whole units, a pixel more and less, and so narrow a rest that the decoder filters it in another way.
SIZES: tuple[Size, ...] = ((96, 128), (97, 127), (111, 145), (83, 67), (66, 35), (40, 1), (3, 50), (1, 1))

DELIVERIES: dict[str, tuple[Step, ...]] = {
    "no step": (),
    **{f"JPEG {s}": (Jpeg(s, 60),) for s in SUBSAMPLINGS},
    **{f"JPEG {a}, then {b}": (Jpeg(a, 30), Jpeg(b, 90)) for a, b in product(SUBSAMPLINGS, SUBSAMPLINGS)},
    "tables of another file": (JpegWithTables("4:2:0", TABLES), Jpeg("4:2:2", 80)),
    "three rounds": (Jpeg("4:2:0", 30), Jpeg("4:2:2", 95), Jpeg("4:2:0", 70)),
    **{f"{k} x {f}": (Rescale(f, k),) for k, f in product(FILTERS, (0.4, 0.77, 1.3))},
    "coded, rescaled, coded": (Jpeg("4:2:0", 50), Rescale(0.6, "lanczos"), Jpeg("4:2:0", 50)),
    "a thumbnail": (Thumbnail(37, "bicubic"), Jpeg("4:2:0", 75)),
    "a thumbnail of a smaller picture": (Thumbnail(200, "bicubic"), Jpeg("4:2:0", 75)),
    "blurred": (Blur(0.8), Jpeg("4:2:2", 85)),
    "blurred more than it is wide": (Blur(3.0),),
    "noisy": (Noise(2.0, 7), Jpeg("4:2:0", 85)),
    "turned": (Flip(horizontal=True), Jpeg("4:2:0", 60)),
    "turned twice": (Flip(vertical=True), Jpeg("4:2:2", 60), Flip(True, True), Jpeg("4:2:0", 40)),
    "cut": (Crop(Box(0, 0, 1, 1)), Jpeg("4:2:0", 60)),
    "WebP": (Jpeg("4:2:0", 90), WebP(50)),
    "all": (
        Flip(True, False),
        Blur(0.5),
        Rescale(0.6, "lanczos"),
        Noise(1.0, 5),
        Jpeg("4:2:0", 40),
        Jpeg("4:2:2", 70),
    ),
}


@cache
def picture(size: Size) -> Pixels:
    """Coloured shapes with grain: neighbouring blocks differ, and so do neighbouring samples of chroma."""
    draw = np.random.Generator(np.random.PCG64(size[0] * 1000 + size[1]))
    coarse = draw.integers(0, 256, (size[0] // 6 + 2, size[1] // 6 + 2, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(smooth + draw.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


def boxes(size: Size) -> Iterator[Box]:
    """On borders of units and beside them, in every corner, along the edges, one pixel, and the whole."""
    height, width = size
    for top, left, tall, wide in (
        (16, 16, 32, 32),
        (15, 17, 33, 31),
        (8, 24, 16, 8),
        (0, 0, 5, 7),
        (height - 5, width - 7, 5, 7),
        (0, width - 2, 9, 2),
        (height - 1, 0, 1, 9),
        (height - 1, width - 1, 1, 1),
        (height // 2, width // 2, 1, 1),
        (0, width // 3, height, 1),
        (16, 0, 1, width),
        (0, 0, height, width),
    ):
        top, left = min(max(top, 0), height - 1), min(max(left, 0), width - 1)
        yield Box(top, left, min(tall, height - top), min(wide, width - left))


def window_alone(pixels: Pixels, steps: tuple[Step, ...], box: Box) -> Pixels:
    """The window computed from what it needs, even where that is most of the picture."""
    return DeliveredImage(pixels, steps)._compute(box)


@pytest.mark.parametrize("name", DELIVERIES)
def test_a_window_is_that_part_of_the_delivered_picture(name: str) -> None:
    for size in SIZES:
        delivered = DeliveredImage(picture(size), DELIVERIES[name])
        expected = delivered.pixels()
        assert expected.shape == (*delivered.size, 3)
        assert expected.dtype == np.uint8
        for box in boxes(delivered.size):
            found = window_alone(picture(size), DELIVERIES[name], box)
            np.testing.assert_array_equal(found, cut(expected, whole(delivered.size), box), f"{size} {box}")


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("size", [(97, 127), (66, 35)])
def test_whole_pictures_are_coded_as_pillow_codes_them(subsampling: Subsampling, size: Size) -> None:
    file = BytesIO()
    Image.fromarray(picture(size)).save(file, "JPEG", quality=60, subsampling=subsampling)
    expected = np.asarray(Image.open(file).convert("RGB"))
    np.testing.assert_array_equal(DeliveredImage(picture(size), (Jpeg(subsampling, 60),)).pixels(), expected)


@pytest.mark.parametrize("kernel", FILTERS)
@pytest.mark.parametrize("factor", [0.05, 0.4, 0.77, 1.0, 1.3])
@pytest.mark.parametrize("size", [(97, 127), (111, 35)])
def test_pictures_are_rescaled_as_pillow_does_in_windows_too(kernel: Filter, factor: float, size: Size) -> None:
    step = Rescale(factor, kernel)
    height, width = step.size_after(size)
    expected = np.asarray(Image.fromarray(picture(size)).resize((width, height), Image.Resampling[kernel.upper()]))
    np.testing.assert_array_equal(DeliveredImage(picture(size), (step,)).pixels(), expected)
    window = Box(height // 4, width // 4, height - height // 4, width - width // 4)
    np.testing.assert_array_equal(
        window_alone(picture(size), (step,), window), cut(expected, whole((height, width)), window)
    )


def test_a_crop_coded_alone_is_another_picture() -> None:
    """What the windows are for: the grid of its blocks lies elsewhere."""
    size, box = (96, 128), Box(19, 21, 48, 48)
    delivered = DeliveredImage(picture(size), (Jpeg("4:2:0", 60),))
    alone = DeliveredImage(cut(picture(size), whole(size), box), (Jpeg("4:2:0", 60),)).pixels()
    assert np.abs(alone.astype(int) - delivered.window(box)).max() > 10


def test_a_window_needs_a_small_part_of_a_large_picture() -> None:
    steps = (Flip(True, False), Rescale(0.8, "bicubic"), Jpeg("4:2:0", 40), Jpeg("4:2:0", 70))
    parts = DeliveredImage(np.zeros((2000, 3000, 3), np.uint8), steps)._parts(Box(700, 900, 224, 224))
    assert parts[0].height <= 350
    assert parts[0].width <= 350


def test_the_whole_is_computed_once_and_serves_the_windows() -> None:
    delivered = DeliveredImage(picture((96, 128)), (Jpeg("4:2:0", 60),))
    assert delivered.pixels() is delivered.pixels()
    assert np.shares_memory(delivered.window(Box(3, 4, 5, 6)), delivered.pixels())


def test_crops_are_padded_with_zeros_as_at_inference() -> None:
    delivered = DeliveredImage(picture((40, 30)), (Jpeg("4:2:0", 60),))
    (crop,) = delivered.crops([Box(0, 0, 40, 30)], 64)
    np.testing.assert_array_equal(crop[:40, :30], delivered.pixels())
    assert not crop[40:].any()
    assert not crop[:, 30:].any()


def test_the_source_is_left_as_it_was() -> None:
    source = picture((96, 128)).copy()
    DeliveredImage(source, DELIVERIES["all"]).pixels()
    np.testing.assert_array_equal(source, picture((96, 128)))


def test_noise_has_the_spread_that_it_is_given_and_the_same_value_at_a_pixel_in_any_window() -> None:
    grey = np.full((200, 300, 3), 128, np.uint8)
    noise = DeliveredImage(grey, (Noise(4.0, 3),)).pixels().astype(int) - 128
    assert noise.mean() == pytest.approx(0, abs=0.05)  # 180,000 samples: 5 standard errors
    assert noise.std() == pytest.approx(4.0, rel=0.02)
    assert np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1] == pytest.approx(0, abs=0.02)
    assert np.corrcoef(noise[:64, :64].ravel(), noise[64:128, :64].ravel())[0, 1] == pytest.approx(0, abs=0.06)
    other = DeliveredImage(grey, (Noise(4.0, 4),)).pixels().astype(int) - 128
    assert np.corrcoef(noise.ravel(), other.ravel())[0, 1] == pytest.approx(0, abs=0.02)


def test_a_picture_too_large_for_webp_is_left_as_it_was() -> None:
    long = np.zeros((1, 16384, 3), np.uint8)
    np.testing.assert_array_equal(DeliveredImage(long, (WebP(50),)).pixels(), long)
