"""Damaged strips of a TIFF are refused, where the codec can tell, as Pillow refuses them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest

from glass_rt.errors import ImageCorrupt
from glass_rt.image.encoded import load
from glass_rt.image.tiff_damage import PIECE, check_deflated
from tests.fuzz.corpus import encoded, tiff_of

PIXELS = np.random.default_rng(7).integers(0, 256, (64, 96, 3), np.uint8)
PICTURE = PIL.Image.fromarray(PIXELS)
FLIP: Callable[[bytes], bytes] = lambda strip: strip[:-200] + bytes([strip[-200] ^ 0xFF]) + strip[-199:]  # noqa: E731


def deflated(change: Callable[[bytes], bytes], *, tiled: bool = False, planar: bool = False, **tags: Any) -> bytes:
    """Deflate in strips of 40 rows, tiles of 64 x 64, or planes, with the last of them changed."""
    if tiled:
        wide = np.pad(PIXELS, ((0, 0), (0, 32), (0, 0)))
        parts = [wide[:, :64], wide[:, 64:]]
    elif planar:
        parts = [PIXELS[:, :, plane] for plane in range(3)]
    else:
        parts = [PIXELS[:40], PIXELS[40:]]
    packed = [zlib.compress(part.tobytes()) for part in parts]
    packed[-1] = change(packed[-1])
    places = [sum(map(len, packed[:index])) for index in range(len(packed))]
    table = {256: (3, [96]), 257: (3, [64]), 258: (3, [8] * 3), 259: (3, [8]), 262: (3, [2]), 277: (3, [3])}
    if tiled:
        table |= {322: (3, [64]), 323: (3, [64]), 324: (4, places), 325: (4, list(map(len, packed)))}
    else:
        rows = 64 if planar else 40
        table |= {273: (4, places), 278: (3, [rows]), 279: (4, list(map(len, packed))), 284: (3, [1 + planar])}
    return tiff_of({**table, **{int(tag[1:]): value for tag, value in tags.items()}}, b"".join(packed))


LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {},
    "tiles": {"tiled": True},
    "planes": {"planar": True},
    "the old number of Deflate": {"_259": (3, [32946])},
}
DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another byte": (FLIP, "of the TIFF is damaged"),
    "the check value": (lambda strip: strip[:-1] + bytes([strip[-1] ^ 1]), "of the TIFF is damaged"),
    "cut": (lambda strip: strip[:-300], "of the TIFF ends early"),
    "fewer rows": (lambda _: zlib.compress(bytes(300)), "of the TIFF ends early: 300 of"),
    "no stream": (lambda strip: bytes(len(strip)), "of the TIFF is damaged"),
    "nothing": (lambda _: b"\x78\x9c", "of the TIFF ends early: 0 of"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_strip_of_deflate_is_refused_as_pillow_refuses_it(layout: str, damage: str) -> None:
    change, says = DAMAGE[damage]
    data = deflated(change, **LAYOUTS[layout])
    with pytest.raises(ImageCorrupt, match=says):
        load(data)
    with pytest.raises(OSError, match=r".+"), PIL.Image.open(io.BytesIO(data)) as picture:
        picture.load()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("beside", [b"", b"padding"])
def test_a_healthy_one_is_judged_also_with_bytes_behind_its_streams(layout: str, beside: bytes) -> None:
    data = deflated(lambda strip: strip + beside, **LAYOUTS[layout])
    assert load(data).info.notices == ()
    assert np.array_equal(load(data).pixels, PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("tags", [{}, {278: 7}, {278: 1000}], ids=str)
def test_what_pillow_writes_is_never_called_damaged(mode: str, tags: dict[int, int]) -> None:
    picture = PICTURE.convert("L").convert("I;16") if mode == "I;16" else PICTURE.convert(mode)
    check_deflated(encoded(picture, "TIFF", compression="tiff_adobe_deflate", tiffinfo=tags))


@pytest.mark.parametrize("rows", [64, 40, 1])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "I;16"])
@pytest.mark.parametrize("width", [96, 94])
def test_a_damaged_strip_of_lzw_is_refused_where_pillow_refuses_it(width: int, mode: str, rows: int) -> None:
    picture = PICTURE.crop((0, 0, width, 64)).convert("L" if mode == "I;16" else mode).convert(mode)
    data = encoded(picture, "TIFF", compression="tiff_lzw", tiffinfo={278: rows})
    load(data)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        places, counts = opened.tag_v2[273], opened.tag_v2[279]  # type: ignore[attr-defined]
    generator = np.random.default_rng(5)
    for damaged in range(8):
        changed = bytearray(data)
        place = places[-1] + int(generator.integers(counts[-1]))
        changed[place : places[-1] + counts[-1]] = bytes(places[-1] + counts[-1] - place)
        assert judged(bytes(changed)) == judged_by_pillow(bytes(changed)), damaged


def judged(data: bytes) -> bool:
    try:
        load(data)
    except ImageCorrupt:
        return False
    return True


def judged_by_pillow(data: bytes) -> bool:
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except OSError:
        return False
    return True


def test_a_large_strip_of_lzw_is_looked_at_too() -> None:
    """Of more words than OpenCV has in a row."""
    pixels = np.random.default_rng(3).integers(0, 256, (1100, 2001), np.uint8)
    data = encoded(PIL.Image.fromarray(pixels), "TIFF", compression="tiff_lzw", tiffinfo={278: 1100})
    assert np.array_equal(load(data).pixels[:, :, 0], pixels)
    assert not judged(data[:-200_000] + bytes(200_000))


def test_other_codecs_are_not_looked_at() -> None:
    for codec in ("packbits", "raw", "jpeg"):
        data = encoded(PICTURE, "TIFF", compression=codec)
        check_deflated(data[:-100] + bytes(100) if codec != "raw" else data)


def test_a_stream_is_inflated_in_pieces_and_no_further_than_its_strip() -> None:
    """A strip of one piece and a bit, packed a thousandfold, with as much again behind it."""
    rows = PIECE // 96 + 2
    packed = zlib.compress(bytes(2 * rows * 96))
    table = {256: (3, [96]), 257: (3, [rows]), 258: (3, [8]), 259: (3, [8]), 262: (3, [1]), 277: (3, [1]),
             273: (4, [0]), 278: (3, [rows]), 279: (4, [len(packed)])}  # fmt: skip
    check_deflated(tiff_of(table, packed))
    short = zlib.compress(bytes(rows * 96 - 1))
    with pytest.raises(ImageCorrupt, match=f"{rows * 96 - 1} of {rows * 96} bytes"):
        check_deflated(tiff_of({**table, 279: (4, [len(short)])}, short))
