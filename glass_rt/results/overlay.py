"""The evidence picture: the image upright, its crops drawn and labelled, a legend and the verdict."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from glass_rt.errors import GlassError
from glass_rt.image.decode import BYTES_PER_PIXEL, Pixels
from glass_rt.image.encoded import ArrayImage, EncodedImage
from glass_rt.results.decision_text import NOT_CALIBRATED, in_words
from glass_rt.results.verdict import UNTRAINED, CropEvidence, Verdict

Colour: TypeAlias = tuple[int, int, int]

MAX_SIDE, MIN_WIDTH = 1600, 900  # of the picture, in pixels
PANEL, MARGIN = 188, 18
_PICTURE_BYTES = 48 << 20  # of a square picture with its panel: four copies on the way to a JPEG, and the decoder's own
LINE, SMALLEST = 29, 11  # pixels: between the baselines of the panel, and the size of text that would not fit
FAINT = 0.01  # an effect that is never drawn in full colour, even where it is the strongest
TOWARDS_FAKE: Colour = (214, 47, 47)
TOWARDS_REAL: Colour = (38, 102, 214)
NEUTRAL: Colour = (150, 150, 150)
INK, PAPER, WARNING = (25, 25, 25), (250, 250, 248), (176, 84, 0)
LABEL_COLOURS = {"fake": TOWARDS_FAKE, "real": TOWARDS_REAL}
# EXIF orientation: (transpose, then mirror left-right, then mirror top-bottom)
_UPRIGHT = {
    1: (False, False, False), 2: (False, True, False), 3: (False, True, True), 4: (False, False, True),
    5: (True, False, False), 6: (True, True, False), 7: (True, True, True), 8: (True, False, True),
}  # fmt: skip


def drawing_bytes(image: EncodedImage | ArrayImage) -> int:
    """Bytes that decoding an image, drawing its evidence picture and encoding that take at most."""
    height, width = image.size_hw
    turned = (
        BYTES_PER_PIXEL * height * width if isinstance(image, EncodedImage) and image.header.orientation != 1 else 0
    )
    return max(image.peak_bytes, image.decoded_bytes + turned) + _PICTURE_BYTES


def draw_overlay(pixels: Pixels, verdict: Verdict) -> Pixels:
    """The evidence picture of `pixels` (H, W, 3) RGB, as they were judged: uint8 RGB, at most 1600 px of image a side.

    A crop's frame is red where it raised the probability, blue where it lowered it, the stronger the larger its effect;
    its caption gives number, attention and effect. The panel below gives the label and its ground.
    """
    upright, crops = _turn(pixels, verdict)
    picture, scale = _scaled(upright)
    strongest = max([FAINT, *(abs(crop.effect or 0.0) for crop in crops)])
    for crop in sorted(crops, key=lambda crop: crop.attention):  # the most attended on top
        _frame(picture, crop, scale, _colour(crop, strongest))
    if len(crops) <= 64:  # labels of every tile of a large image would hide it
        for number, crop in enumerate(crops, start=1):
            _label(picture, crop, number, scale, _colour(crop, strongest))
    return np.concatenate([picture, _panel(picture.shape[1], verdict)])


def write_overlay(path: Path, picture: Pixels) -> None:
    """Writes the picture as JPEG or PNG, by the name's suffix; raises GlassError where that fails."""
    encoded = _encoded(picture, path.suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise GlassError(f"{path}: the evidence picture cannot be written: {error.strerror}") from error


def jpeg_bytes(picture: Pixels) -> bytes:
    """The picture as a JPEG; raises GlassError where it cannot be encoded."""
    return _encoded(picture, ".jpg")


def _encoded(picture: Pixels, suffix: str) -> bytes:
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise GlassError(f"the evidence picture cannot be encoded as {suffix}")
    return encoded.tobytes()


def _turn(pixels: Pixels, verdict: Verdict) -> tuple[Pixels, tuple[CropEvidence, ...]]:
    """Pixels and boxes as the camera meant them to be looked at."""
    transpose, mirror_x, mirror_y = _UPRIGHT.get(verdict.orientation, _UPRIGHT[1])
    crops = verdict.crops
    if transpose:
        pixels = pixels.transpose(1, 0, 2)
        crops = tuple(replace(c, left=c.top, top=c.left, width=c.height, height=c.width) for c in crops)
    height, width = pixels.shape[:2]
    if mirror_x:
        pixels = pixels[:, ::-1]
        crops = tuple(replace(c, left=width - c.left - c.width) for c in crops)
    if mirror_y:
        pixels = pixels[::-1]
        crops = tuple(replace(c, top=height - c.top - c.height) for c in crops)
    return pixels, crops


def _scaled(pixels: Pixels) -> tuple[Pixels, float]:
    """At most MAX_SIDE on the longer side, small images enlarged up to 8 times, padded to a readable width."""
    height, width = pixels.shape[:2]
    scale = min(MAX_SIDE / max(height, width), 8.0 if max(height, width) < MIN_WIDTH / 2 else 1.0)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    scaled = cv2.resize(np.ascontiguousarray(pixels), size_wh, interpolation=method)
    canvas = np.full((size_wh[1], max(MIN_WIDTH, size_wh[0]), 3), PAPER, np.uint8)
    canvas[:, : size_wh[0]] = scaled
    return canvas, scale


def _colour(crop: CropEvidence, strongest: float) -> Colour:
    effect = crop.effect or 0.0
    strength = (abs(effect) / strongest) ** 0.5
    target = TOWARDS_FAKE if effect > 0 else TOWARDS_REAL
    mixed = (round(n + (t - n) * strength) for n, t in zip(NEUTRAL, target, strict=True))
    red, green, blue = mixed
    return red, green, blue


def _frame(picture: Pixels, crop: CropEvidence, scale: float, colour: Colour) -> None:
    left, top = round(crop.left * scale), round(crop.top * scale)
    right, bottom = round((crop.left + crop.width) * scale) - 1, round((crop.top + crop.height) * scale) - 1
    cv2.rectangle(picture, (left, top), (right, bottom), PAPER, 5, cv2.LINE_AA)
    cv2.rectangle(picture, (left, top), (right, bottom), colour, 3, cv2.LINE_AA)


def _label(picture: Pixels, crop: CropEvidence, number: int, scale: float, colour: Colour) -> None:
    effect = "" if crop.effect is None else f"  {crop.effect:+.3f}"
    text, size = f"{number}  {crop.attention:.0%}{effect}", 15
    width = _text_width(text, size) + 8
    left = min(max(0, round(crop.left * scale)), max(0, picture.shape[1] - width))
    top = min(round(crop.top * scale), max(0, picture.shape[0] - 22))
    cv2.rectangle(picture, (left, top), (left + width, top + 21), colour, cv2.FILLED)
    _write(picture, text, left + 4, top + 16, size, (255, 255, 255), weight=600)


def _panel(width: int, verdict: Verdict) -> Pixels:
    panel = np.full((PANEL, width, 3), PAPER, np.uint8)
    baseline = 36
    for text, size, colour, weight in panel_texts(verdict):
        if text:
            _write_fitting(panel, text, baseline, size, colour, weight)
            baseline += LINE
    if verdict.crops:
        _legend(panel, MARGIN, baseline)
    notices = [notice for notice in verdict.notices if notice != NOT_CALIBRATED]  # the ground of the label says that
    warning = UNTRAINED if not verdict.trained else "; ".join(notices)
    _write_fitting(panel, warning, PANEL - 11, 16, WARNING, weight=600)
    return panel


def panel_texts(verdict: Verdict) -> tuple[tuple[str, int, Colour, int], ...]:
    """The lines under the picture, each with its size, colour and weight: headline, ground of the label, engine.

    Without a label the headline has none.
    """
    number = f"P(AI-generated) = {verdict.probability_fake:.3f}"
    headline = number if verdict.label == "none" else f"{verdict.label.upper()}   {number}"
    engine = f"{verdict.engine.name}, {verdict.engine.backend} {verdict.engine.precision}   {_sampling(verdict)}"
    first, second = (*in_words(verdict.decision), "")[:2]
    return (
        (headline, 28, LABEL_COLOURS.get(verdict.label, INK), 800),
        (first, 17, INK, 400),
        (second, 17, INK, 400),
        (engine, 17, INK, 400),
    )


def _sampling(verdict: Verdict) -> str:
    if verdict.sampling is None:
        return "the resized image only"
    if verdict.sampling == "tiles":
        return f"every window: {len(verdict.crops)} crops"
    how = f"stratified {verdict.grid} x {verdict.grid}" if verdict.stratified else "not stratified"
    return f"{len(verdict.crops)} crops, {how}, seed {verdict.seed}"


def _legend(panel: Pixels, left: int, baseline: int) -> None:
    for colour, text in (
        (TOWARDS_FAKE, "raised P(AI-generated)"),
        (TOWARDS_REAL, "lowered it"),
        (NEUTRAL, "no effect"),
    ):
        cv2.rectangle(panel, (left, baseline - 12), (left + 18, baseline), colour, cv2.FILLED)
        left = _write(panel, text, left + 24, baseline, 15, INK) + 20
    _write(panel, "captions: number, attention, effect", left, baseline, 15, INK)


def _write(picture: Pixels, text: str, left: int, baseline: int, size: int, colour: Colour, weight: int = 400) -> int:
    """Draws in place; returns where the text ends."""
    end, _ = cv2.putText(picture, text, (left, baseline), colour, cv2.FontFace("sans"), size, weight)
    return int(end[0])


def _write_fitting(panel: Pixels, text: str, baseline: int, size: int, colour: Colour, weight: int) -> None:
    """Draws a line at the left margin, smaller where it would not fit, and cut where it still does not."""
    room = panel.shape[1] - 2 * MARGIN
    while size > SMALLEST and _text_width(text, size) > room:
        size -= 1
    while len(text) > 4 and _text_width(text, size) > room:
        text = f"{text[: -4 - len(text) // 20]}..."
    _write(panel, text, MARGIN, baseline, size, colour, weight)


def _text_width(text: str, size: int) -> int:
    return int(cv2.getTextSize((1, 1), text, (0, 0), cv2.FontFace("sans"), size, 600)[2])
