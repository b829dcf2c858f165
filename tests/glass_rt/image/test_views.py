"""Crops are copied once, padded with black, and nothing is left of what was in the batch before."""

import numpy as np

from glass_rt.image.sampling import Box
from glass_rt.image.views import cut_crops


def test_crops_are_the_pixels_under_their_boxes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (500, 600, 3), dtype=np.uint8)
    out = np.full((2, 224, 224, 3), 77, np.uint8)
    cut_crops(pixels, (Box(3, 5, 224, 224), Box(276, 376, 224, 224)), out)
    assert (out[0] == pixels[3:227, 5:229]).all()
    assert (out[1] == pixels[276:500, 376:600]).all()


def test_what_lies_outside_the_image_is_black() -> None:
    pixels = np.full((100, 300, 3), 200, np.uint8)
    out = np.full((1, 224, 224, 3), 77, np.uint8)
    cut_crops(pixels, (Box(0, 76, 100, 224),), out)
    assert (out[0, :100] == 200).all()
    assert (out[0, 100:] == 0).all()
    narrow = np.full((1, 224, 224, 3), 77, np.uint8)
    cut_crops(pixels[:, :50], (Box(0, 0, 100, 50),), narrow)
    assert (narrow[0, :100, :50] == 200).all()
    assert narrow.sum() == 100 * 50 * 3 * 200
