"""The evidence picture: upright as Pillow turns it, and each crop's frame where its crop lies, in its colour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from numpy.typing import NDArray

from glass_rt.decision.calibration import Guarantee, Thresholds
from glass_rt.decision.decide import Decision, Label
from glass_rt.errors import GlassError
from glass_rt.results.decision_text import in_words
from glass_rt.results.overlay import (
    FAINT,
    MARGIN,
    MAX_SIDE,
    MIN_WIDTH,
    NEUTRAL,
    PANEL,
    PAPER,
    TOWARDS_FAKE,
    TOWARDS_REAL,
    draw_overlay,
    jpeg_bytes,
    panel_texts,
    write_overlay,
)
from glass_rt.results.verdict import UNTRAINED, CropEvidence, EngineInfo, Timings, Verdict

HEIGHT, WIDTH = 640, 960  # drawn as they are: neither enlarged nor reduced
CROP = CropEvidence(left=100, top=300, width=224, height=224, attention=1.0, effect=0.25)
GUARANTEE = Guarantee(0.95, fpr=0.01, images=300, above=0, fnr=0.05, fakes=300, below=9)
ORIENTATION_TAG = 0x0112


def verdict_with(*crops: CropEvidence, orientation: int = 1, label: Label = "fake") -> Verdict:
    return Verdict(
        path="picture.png", sha256="ab" * 32, width=WIDTH, height=HEIGHT, format="png", jpeg_quality=None,
        decision=Decision(label, "threshold", threshold=0.5), probability_fake=0.75, probabilities={"fake": 0.75, "real": 0.25}, logits=(1.0, -0.1),
        trained=True, seed=1, sampling="stratified", stratified=True, grid=2, trained_crops=4, crops=crops, draws=None,
        orientation=orientation, notices=(),
        engine=EngineInfo("glass", "glass", "resnet18", "onnxruntime", "fp32", "cd" * 32, "ef" * 32),
        timings_ms=Timings(1.0, 1.0, 1.0, 1.0, 4.0),
    )  # fmt: skip


def gradient(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A picture without symmetry: every pixel says where it lies."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 1] = 60 + np.arange(height)[:, None] * 120 // height
    pixels[..., 2] = 60 + np.arange(width) * 120 // width
    return pixels


def turned_by_pillow(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    picture = PIL.Image.fromarray(pixels)
    picture.getexif()[ORIENTATION_TAG] = orientation
    return np.asarray(PIL.ImageOps.exif_transpose(picture))


def has_colour(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(picture.astype(int) - colour) <= 2).all(axis=2))


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is set, the ends included."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_is_turned_as_pillow_turns_it(orientation: int) -> None:
    stored = gradient()
    upright = turned_by_pillow(stored, orientation)
    picture = draw_overlay(stored, verdict_with(orientation=orientation))
    height, width = upright.shape[:2]
    np.testing.assert_array_equal(picture[:height, :width], upright)
    assert (picture[:height, width:] == PAPER).all()  # a narrow picture is padded to a readable width
    assert picture.shape == (height + PANEL, max(width, MIN_WIDTH), 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_frame_lies_where_its_crop_lies_in_the_turned_picture(orientation: int) -> None:
    stored = gradient()
    where = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    where[CROP.top : CROP.top + CROP.height, CROP.left : CROP.left + CROP.width] = 255
    expected = box_of(turned_by_pillow(where, orientation)[..., 0] == 255)
    plain = draw_overlay(stored, verdict_with(orientation=orientation))
    framed = draw_overlay(stored, verdict_with(CROP, orientation=orientation))
    found = box_of(has_colour(framed, TOWARDS_FAKE)[: framed.shape[0] - PANEL])
    assert found == pytest.approx(expected, abs=2)  # half of a line of three pixels
    left, top, right, bottom = expected
    inside = (slice(top + 28, bottom - 8), slice(left + 8, right - 8))  # below the label
    np.testing.assert_array_equal(framed[inside], plain[inside])


@pytest.mark.parametrize(
    ("effect", "colour"),
    [
        (0.25, TOWARDS_FAKE),
        (-0.25, TOWARDS_REAL),
        (0.0, NEUTRAL),
        (None, NEUTRAL),  # one crop in all: nothing is left without it
    ],
)
def test_a_frame_has_the_colour_of_what_its_crop_did(effect: float | None, colour: tuple[int, int, int]) -> None:
    picture = draw_overlay(gradient(), verdict_with(replace(CROP, effect=effect)))
    edge = picture[CROP.top + CROP.height - 1, CROP.left + 60 : CROP.left + CROP.width - 10]
    np.testing.assert_array_equal(edge, np.broadcast_to(colour, edge.shape))


def test_a_weaker_effect_is_paler_and_a_faint_one_never_in_full_colour() -> None:
    other = replace(CROP, left=500, effect=0.25 / 4)
    picture = draw_overlay(gradient(), verdict_with(CROP, other))
    half = [round(n + (t - n) * 0.5) for n, t in zip(NEUTRAL, TOWARDS_FAKE, strict=True)]
    assert picture[CROP.top + CROP.height - 1, other.left + 100].tolist() == half
    faint = draw_overlay(gradient(), verdict_with(replace(CROP, effect=FAINT / 100)))
    shade = [round(n + (t - n) * 0.1) for n, t in zip(NEUTRAL, TOWARDS_FAKE, strict=True)]
    assert faint[CROP.top + CROP.height - 1, CROP.left + 100].tolist() == shade


def test_the_most_attended_crop_lies_on_top() -> None:
    below, above = replace(CROP, attention=0.2, effect=-0.25), replace(CROP, left=CROP.left + 100, attention=0.8)
    picture = draw_overlay(gradient(), verdict_with(above, below))
    assert picture[below.top + 100, above.left].tolist() == list(TOWARDS_FAKE)  # its left edge, inside the other


@pytest.mark.parametrize(
    ("size_hw", "drawn_hw"),
    [
        ((3200, 4800), (1067, 1600)),  # reduced to MAX_SIDE
        ((100, 50), (800, 400)),  # enlarged, 8 times at most
        ((1, 1), (8, 8)),
    ],
)
def test_pictures_are_scaled_and_frames_with_them(size_hw: tuple[int, int], drawn_hw: tuple[int, int]) -> None:
    height, width = size_hw
    crop = CropEvidence(left=0, top=0, width=width // 2, height=height, attention=1.0, effect=-0.5)
    picture = draw_overlay(gradient(height, width), replace(verdict_with(crop), width=width, height=height))
    assert picture.shape == (drawn_hw[0] + PANEL, max(MIN_WIDTH, drawn_hw[1]), 3)
    if width > 1:
        _, _, right, bottom = box_of(has_colour(picture, TOWARDS_REAL)[: drawn_hw[0]])
        assert (right, bottom) == pytest.approx((drawn_hw[1] / 2 - 1, drawn_hw[0] - 1), abs=2)
    assert max(drawn_hw) <= MAX_SIDE


DECISIONS = {
    "fake": Decision("fake", "threshold", reason="the bundle is not calibrated", threshold=0.5),
    "real": Decision("real", "calibrated", "0123456789abcdef", "the rest", None, None, Thresholds(0.9, 0.8), GUARANTEE),
    "unsure": Decision("unsure", "calibrated", "0123456789abcdef", "thumbnail", "12 real images; 299 are needed"),
    "none": Decision("none", "untrained", reason="the weights are untrained: the score says nothing"),
}


@pytest.mark.parametrize(("label", "colour"), [("fake", TOWARDS_FAKE), ("real", TOWARDS_REAL)])
def test_the_panel_has_the_label_in_its_colour(label: str, colour: tuple[int, int, int]) -> None:
    panel = draw_overlay(gradient(), replace(verdict_with(), decision=DECISIONS[label]))[HEIGHT:]
    assert has_colour(panel, colour).any()
    assert not has_colour(panel, TOWARDS_REAL if label == "fake" else TOWARDS_FAKE).any()


@pytest.mark.parametrize("label", ["unsure", "none"])
def test_the_panel_of_no_decided_label_has_no_colour_of_one(label: str) -> None:
    verdict = replace(verdict_with(), decision=DECISIONS[label], trained=label != "none", notices=(UNTRAINED,))
    panel = draw_overlay(gradient(), verdict)[HEIGHT:]
    assert not has_colour(panel, TOWARDS_FAKE).any()
    assert not has_colour(panel, TOWARDS_REAL).any()


@pytest.mark.parametrize("label", DECISIONS)
def test_the_panel_says_the_label_and_its_ground(label: str) -> None:
    decision = DECISIONS[label]
    texts = [text for text, *_ in panel_texts(replace(verdict_with(), decision=decision))]
    words = set(" ".join(texts[:1]).split())
    assert words & {"FAKE", "REAL", "UNSURE", "NONE"} == (set() if label == "none" else {label.upper()})
    assert texts[1:3] == [*in_words(decision), ""][:2]


def test_a_line_that_is_longer_than_the_picture_is_wide_is_drawn_within_it() -> None:
    long = replace(DECISIONS["unsure"], reason="x " * 150)
    panel = draw_overlay(gradient(), replace(verdict_with(), decision=long, notices=("y" * 500,)))[HEIGHT:]
    assert (panel[:, -MARGIN // 2 :] == PAPER).all()


def test_pictures_are_written_as_rgb_whole_or_not_at_all(tmp_path: Path) -> None:
    picture = np.full((40, 40, 3), (200, 30, 90), np.uint8)
    write_overlay(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(tmp_path / "new" / "a.png")), picture)
    read = cv2.imdecode(np.frombuffer(jpeg_bytes(picture), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert read is not None
    assert np.abs(read.astype(int) - picture).max() < 6
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GlassError, match="evidence picture cannot be written"):
        write_overlay(tmp_path / "file" / "a.jpg", picture)
