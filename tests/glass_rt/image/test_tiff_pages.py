"""Which of a TIFF's pictures is judged, and what is said of the others."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from glass_rt.errors import ImageFormatError
from glass_rt.image.encoded import load

SIZE = (32, 24)
LARGE = (320, 240)
REDUCED, PAGE, MASK = 1, 2, 4  # bits of NewSubfileType


@dataclass(frozen=True)
class Page:
    """One picture of one colour; `below`: in a SubIFD of the page before. `more`: further tags, one LONG each."""

    size: tuple[int, int] = SIZE
    kind: int = 0
    below: bool = False
    more: tuple[tuple[int, int], ...] = ()


def tiff(*pages: Page, big: bool = False, order: str = "<") -> bytes:
    """The directories one after the other, then the pixels."""
    entry, number, ends = (20, "Q", 8) if big else (12, "I", 4)
    counts = [
        11 + len(page.more) + (page.below is False and _followed(pages, index)) for index, page in enumerate(pages)
    ]
    starts, place = [], 16
    for count in counts:
        starts.append(place)
        place += (8 if big else 2) + entry * count + ends
    body, pixels = b"", b""
    for index, page in enumerate(pages):
        width, height = page.size
        tags = {254: page.kind, 256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: place + len(pixels), 277: 1,
                278: height, 279: width * height, 274: 1, **dict(page.more)}  # fmt: skip
        if _followed(pages, index):
            tags[330] = starts[index + 1]
        pixels += bytes([40 * index + 30]) * (width * height)
        body += struct.pack(order + ("Q" if big else "H"), len(tags))
        for tag, value in sorted(tags.items()):
            body += struct.pack(f"{order}HH{number}{number}", tag, 16 if big else 4, 1, value)
        following = next(
            (start for later, start in zip(pages[index + 1 :], starts[index + 1 :], strict=True) if not later.below), 0
        )
        body += struct.pack(order + number, 0 if page.below else following)
    head = b"II" if order == "<" else b"MM"
    head += struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 16) if big else (42, 16)))
    return head.ljust(16, b"\0") + body + pixels


def _followed(pages: Sequence[Page], index: int) -> bool:
    return not pages[index].below and index + 1 < len(pages) and pages[index + 1].below


REDUCED_FIRST = "a reduced picture of 32 x 24 is judged; the largest has 320 x 240"
CASES = [
    ("one page", (Page(),), ()),
    ("a thumbnail behind", (Page(LARGE), Page(SIZE, REDUCED)), ()),
    ("a thumbnail below", (Page(LARGE), Page(SIZE, REDUCED, below=True)), ()),
    ("a smaller copy below, as in pyramids", (Page(LARGE), Page((160, 120), below=True)), ()),
    ("its mask", (Page(), Page(SIZE, MASK)), ()),
    ("two pages", (Page(), Page()), ("several pages: the first of 2 is judged",)),
    ("pages that say so", (Page(SIZE, PAGE), Page(SIZE, PAGE), Page(SIZE, PAGE)), ("several pages: the first of 3 is judged",)),
    ("a larger page", (Page(), Page(LARGE)), ("several pages: the first of 2 is judged",)),
    ("a thumbnail first", (Page(SIZE, REDUCED), Page(LARGE)), (REDUCED_FIRST,)),
    ("a thumbnail first, the old tag", (Page(more=((255, 2),)), Page(LARGE)), (REDUCED_FIRST,)),
    ("a thumbnail first, the picture below", (Page(SIZE, REDUCED), Page(LARGE, below=True)), (REDUCED_FIRST,)),
    ("the picture below one that does not say that it is small", (Page(), Page(LARGE, below=True)), (REDUCED_FIRST,)),
]  # fmt: skip
RAW = [
    ("DNG", (Page(more=((50706, 0x0401),)),)),
    ("the sensor's picture below a preview", (Page(SIZE, REDUCED), Page(LARGE, below=True, more=((262, 32803),)))),
    ("the sensor's picture behind a preview", (Page(SIZE, REDUCED), Page(LARGE, more=((262, 32803),)))),
    ("a linear one", (Page(SIZE, REDUCED), Page(LARGE, below=True, more=((262, 34892),)))),
    ("the sensor's picture alone", (Page(more=((262, 32803),)),)),
]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("pages", "notices"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_the_first_picture_is_judged_and_the_others_are_said(
    pages: tuple[Page, ...], notices: tuple[str, ...], order: str, big: bool
) -> None:
    image = load(tiff(*pages, big=big, order=order))
    assert (image.pixels == 30).all()
    assert (image.info.width, image.info.height) == pages[0].size
    assert image.info.notices == notices


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pages", [row[1] for row in RAW], ids=[row[0] for row in RAW])
def test_a_raw_file_is_refused_by_name_whatever_its_suffix(pages: tuple[Page, ...], order: str) -> None:
    with pytest.raises(ImageFormatError, match=r"a camera's raw file is not supported: .* save it as JPEG"):
        load(tiff(*pages, order=order))


def test_canons_mark_is_that_of_a_raw_file() -> None:
    data = bytearray(tiff(Page()))
    data[8:10] = b"CR"
    with pytest.raises(ImageFormatError, match="a camera's raw file"):
        load(bytes(data))


def test_directories_in_a_circle_and_beyond_the_end_end_the_walk() -> None:
    data = bytearray(tiff(Page()))
    after = 16 + 2 + 11 * 12
    for place in (16, len(data) + 1, len(data) - 1):  # itself, beyond the end, and no directory
        data[after : after + 4] = struct.pack("<I", place)
        assert load(bytes(data)).info.notices == ()
