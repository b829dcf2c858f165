"""The evidence picture: what GLASS looked at, a detail in full resolution, and all that resize-only sees."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from glass_rt.image.decode import Pixels
from glass_rt.results.overlay import INK, PANEL, PAPER, draw_overlay
from glass_rt.results.verdict import CropEvidence, Verdict

DETAIL = 45  # pixels a side of the detail
ENLARGED = 16  # times
CONTRAST = 4.0  # of the detail, around its mean
STRIP, GAP = 44, 24  # pixels: the height of a line of text, and the space between columns
NAMES = ("with the artefact", "without")


def draw_figure(
    pictures: Sequence[Pixels], views: Sequence[Pixels], glass: Sequence[Verdict], resize: Sequence[Verdict]
) -> Pixels:
    """One column per picture, uint8 RGB. `pictures`: as judged; `views`: what resize-only saw, uint8 (224, 224, 3).

    Both details are of the crop that did most in the first picture.
    """
    crop = max(glass[0].crops, key=lambda one: abs(one.effect or 0))
    titles = [
        f"{name}: GLASS {one.probability_fake:.2f}, resize-only {other.probability_fake:.2f}"
        for name, one, other in zip(NAMES, glass, resize, strict=True)
    ]
    columns = [_column(*row, crop) for row in zip(titles, pictures, views, glass, strict=True)]
    gap = np.full((columns[0].shape[0], GAP, 3), PAPER, np.uint8)
    return np.concatenate([columns[0], gap, columns[1]], axis=1)


def _column(title: str, picture: Pixels, view: Pixels, verdict: Verdict, crop: CropEvidence) -> Pixels:
    evidence = draw_overlay(picture, verdict)[:-PANEL]
    side = DETAIL * ENLARGED
    width = max(evidence.shape[1], 2 * side)
    corner = (slice(crop.top, crop.top + DETAIL), slice(crop.left, crop.left + DETAIL))
    squares = [_enlarged(_contrasted(picture[corner]), side), _enlarged(view, side)]
    texts = [
        f"{DETAIL} x {DETAIL} pixels of it, {ENLARGED} times enlarged, contrast x {CONTRAST:g}",
        f"all that resize-only sees: {view.shape[1]} x {view.shape[0]}",
    ]
    captions = np.concatenate([_strip(text, side) for text in texts], axis=1)
    rows = [_strip(title, width), evidence, captions, np.concatenate(squares, axis=1)]
    return np.concatenate([_widened(row, width) for row in rows])


def _contrasted(pixels: Pixels) -> Pixels:
    mean = pixels.mean(axis=(0, 1))
    levels: Pixels = np.clip((pixels - mean) * CONTRAST + mean, 0, 255).round().astype(np.uint8)
    return levels


def _enlarged(pixels: Pixels, side: int) -> Pixels:
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_NEAREST), np.uint8)


def _strip(text: str, width: int) -> Pixels:
    strip = np.full((STRIP, width, 3), PAPER, np.uint8)
    cv2.putText(strip, text, (10, 30), INK, cv2.FontFace("sans"), 22, 500)
    return strip


def _widened(row: Pixels, width: int) -> Pixels:
    return np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=PAPER[0])
