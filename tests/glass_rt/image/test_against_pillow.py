"""Format by mode by depth by alpha by oddity: our pixels are Pillow's within one level, or a notice says why not."""

import io
import lzma
import re
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import PIL.features
import PIL.Image
import pytest
from numpy.typing import NDArray

from glass_rt.errors import ImageFormatError
from glass_rt.image.encoded import load
from tests.fuzz.corpus import (
    PICTURE,
    bmp_of_masks,
    bmp_of_runs,
    encoded,
    exif_block,
    gif_frame_on_screen,
    png_chunk,
    png_with,
    tiff_of,
    tiled_tiff,
    with_alpha,
    with_hole,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's, of the odd files
TRANSPARENT = "transparency dropped: the colours under it are judged"
ENDS_EARLY = "the file ends early, behind its pixels"
# The modes that Pillow writes in each format, and the ways it has to write them.
MODES: list[tuple[str, tuple[str, ...], tuple[dict[str, Any], ...]]] = [
    ("JPEG", ("RGB", "L", "CMYK", "YCbCr"), tuple({"subsampling": s, "progressive": p} for s in (0, 1, 2) for p in (False, True))),
    ("PNG", ("RGB", "RGBA", "L", "LA", "P", "PA", "1"), ({}, {"optimize": True})),
    ("WEBP", ("RGB", "RGBA", "L", "LA", "P"), ({}, {"lossless": True}, {"lossless": True, "exact": True})),
    ("GIF", ("RGB", "RGBA", "L", "LA", "P", "1"), ({}, {"interlace": 0}, {"transparency": 3})),
    ("TIFF", ("RGB", "RGBA", "L", "LA", "P", "PA", "1", "CMYK", "RGBX"), tuple({"compression": c} for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"))),
    ("TIFF", ("RGB", "L", "YCbCr"), ({"compression": "jpeg"},)),
    ("TIFF", ("RGB", "RGBA", "L", "LA", "P", "CMYK"), ({"compression": "lzma"}, {"compression": "lzma", "tiffinfo": {317: 2}})),
    ("TIFF", ("RGB", "RGBA", "L", "LA", "P", "CMYK"), ({"compression": "zstd"}, {"compression": "zstd", "tiffinfo": {317: 2}})),
    ("TIFF", ("1",), ({"compression": "lzma"}, {"compression": "zstd"})),
    ("TIFF", ("1",), ({"compression": "group3"}, {"compression": "group4"})),
    ("BMP", ("RGB", "RGBA", "L", "P", "1"), ({},)),
    ("AVIF", ("RGB", "RGBA", "L", "LA", "P"), tuple({"subsampling": s, "speed": 10} for s in ("4:4:4", "4:2:2", "4:2:0", "4:0:0"))),
    ("AVIF", ("RGB", "RGBA", "L", "LA", "P"), tuple({"subsampling": s, "speed": 10, "range": "limited"} for s in ("4:4:4", "4:2:0", "4:0:0"))),
    ("AVIF", ("L",), ({"subsampling": "4:0:0", "speed": 10, "range": "limited", "save_all": True, "append_images": [PICTURE.rotate(90)]},)),
]  # fmt: skip
WRITTEN = [(form, mode, options) for form, modes, ways in MODES for mode in modes for options in ways]


def in_mode(mode: str) -> PIL.Image.Image:
    if mode == "PA":
        return with_alpha().quantize(64)
    return (with_alpha() if mode in ("RGBA", "LA") else PICTURE).convert(mode)


def pillows(data: bytes) -> NDArray[np.uint8]:
    with PIL.Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def assert_like_pillow(data: bytes, notices: tuple[str, ...] | None = None) -> None:
    image = load(data)
    theirs = pillows(data)
    assert image.pixels.shape == theirs.shape
    assert np.abs(image.pixels.astype(int) - theirs).max() <= 1
    if notices is not None:
        assert image.info.notices == notices


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    WRITTEN,
    ids=[re.sub(" at 0x[0-9A-F]+", "", " ".join(map(str, row))) for row in WRITTEN],
)
def test_what_pillow_writes_we_read_alike(form: str, mode: str, options: dict[str, Any]) -> None:
    if form == "AVIF" and not PIL.features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encoded(in_mode(mode), form, **options)
    assert_like_pillow(data)
    if mode in ("RGBA", "LA") and form in ("PNG", "WEBP", "TIFF", "AVIF"):
        assert TRANSPARENT in load(data).info.notices


RGBA = np.asarray(with_alpha())
RGB = np.asarray(PICTURE)
GREY = np.asarray(PICTURE.convert("L"))


def tiff_of_pixels(
    pixels: NDArray[Any], photometric: int = 2, packed: Callable[[bytes], bytes] = bytes, **tags: Any
) -> bytes:
    """One strip of (64, 96, samples), packed so."""
    payload = packed(pixels.tobytes())
    pixels = pixels.reshape(64, 96, -1)
    samples, bits = pixels.shape[2], 8 * pixels.itemsize
    table: dict[int, tuple[int, list[int]]] = {
        256: (3, [96]), 257: (3, [64]), 258: (3, [bits] * samples), 259: (3, [1]), 262: (3, [photometric]),
        273: (4, [0]), 277: (3, [samples]), 278: (3, [64]), 279: (4, [len(payload)]),
    }  # fmt: skip
    return tiff_of({**table, **{int(tag[1:]): value for tag, value in tags.items()}}, payload)


def wide(pixels: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return pixels.astype("<u2") * 257


PNG, GIF = encoded(PICTURE, "PNG"), encoded(PICTURE.convert("P"), "GIF")
FIVE, CMYK = np.dstack([RGBA, GREY]), np.asarray(PICTURE.convert("CMYK"))
FIVE_SAMPLES = "5 samples a pixel: the colours among them are judged"
PLAIN_CMYK = "CMYK converted to RGB without its colour profile"
LA = np.dstack([GREY, RGBA[:, :, 3]])


def _five_packed(codec: str, predictor: int) -> bytes:
    """Two strips, packed by Pillow as if they were grey; its own files have at most four samples."""
    pixels = np.diff(FIVE, axis=1, prepend=FIVE[:, :1] * 0) if predictor == 2 else FIVE
    strips = []
    for half in (pixels[:40], pixels[40:]):
        grey = encoded(PIL.Image.fromarray(half.reshape(len(half), -1)), "TIFF", compression=codec, tiffinfo={278: 64})
        with PIL.Image.open(io.BytesIO(grey)) as picture:
            (offset,), (count,) = picture.tag_v2[273], picture.tag_v2[279]  # type: ignore[attr-defined]
            compression = picture.tag_v2[259]  # type: ignore[attr-defined]
        strips.append(grey[offset : offset + count])
    tags = {256: (3, [96]), 257: (3, [64]), 258: (3, [8] * 5), 259: (3, [compression]), 262: (3, [2]), 277: (3, [5]),
            273: (4, [0, len(strips[0])]), 278: (3, [40]), 279: (4, [len(strips[0]), len(strips[1])]),
            317: (3, [predictor]), 338: (3, [2, 0])}  # fmt: skip
    return tiff_of(tags, b"".join(strips))


def _low_depth(bits: int, photometric: int, tiled: bool, codec: int) -> bytes:
    """Grey or places in a palette of a few bits, each row from a whole byte on."""
    whole = np.unpackbits((GREY >> (8 - bits)).astype(np.uint8)[:, :, None], axis=2)[:, :, -bits:]
    blocks = [whole[y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32, 64)] if tiled else [whole]
    parts = [np.packbits(block.reshape(len(block), -1), axis=1).tobytes() for block in blocks]
    parts = [zlib.compress(part) for part in parts] if codec == 8 else parts
    places = [sum(map(len, parts[:index])) for index in range(len(parts))]
    table = {
        256: (3, [96]),
        257: (3, [64]),
        258: (3, [bits]),
        259: (3, [codec]),
        262: (3, [photometric]),
        277: (3, [1]),
    }
    if photometric == 3:
        table[320] = (3, [257 * value for value in np.random.default_rng(3).integers(0, 256, 3 << bits).tolist()])
    where = {322: (3, [32]), 323: (3, [32]), 324: (4, places), 325: (4, [*map(len, parts)])}
    return tiff_of(
        {**table, **(where if tiled else {273: (4, places), 278: (3, [64]), 279: (4, [*map(len, parts)])})},
        b"".join(parts),
    )


# Bits per pixel, bytes of the header, masks.
BMP_MASKS: list[tuple[int, int, tuple[int, ...]]] = [
    (16, 40, (0xF800, 0x7E0, 0x1F)),
    (16, 40, (0x7C00, 0x3E0, 0x1F)),
    (16, 124, (0xF800, 0x7E0, 0x1F, 0)),
    (32, 40, (0xFF0000, 0xFF00, 0xFF)),
    (32, 40, (0xFF000000, 0xFF0000, 0xFF00)),
    (32, 40, (0xFF000000, 0xFF00, 0xFF)),
    (32, 52, (0xFF0000, 0xFF00, 0xFF)),
    (32, 108, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    (32, 108, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    (32, 124, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    (32, 124, (0xFF000000, 0xFF00, 0xFF, 0xFF0000)),
]
# What Pillow judges and does not write itself: name, file, our notices.
ODD: list[tuple[str, Callable[[], bytes], tuple[str, ...]]] = [
    ("tiff: alpha not associated", lambda: tiff_of_pixels(RGBA, _338=(3, [2])), (TRANSPARENT,)),
    ("tiff: alpha associated", lambda: tiff_of_pixels(RGBA, _338=(3, [1])), (TRANSPARENT,)),
    ("tiff: a fourth sample of no meaning", lambda: tiff_of_pixels(RGBA, _338=(3, [0])), ()),
    ("tiff: a fourth sample unannounced", lambda: tiff_of_pixels(RGBA), ()),
    ("tiff: alpha not associated, 16 bits", lambda: tiff_of_pixels(wide(RGBA), _338=(3, [2])), ("16 bits per channel reduced to 8", TRANSPARENT)),
    ("tiff: alpha associated, 16 bits", lambda: tiff_of_pixels(wide(RGBA), _338=(3, [1])), ("16 bits per channel reduced to 8", TRANSPARENT)),
    ("tiff: grey and alpha", lambda: tiff_of_pixels(LA, 1, _338=(3, [2])), (TRANSPARENT,)),
    ("tiff: white is zero", lambda: tiff_of_pixels(GREY, 0), ()),
    ("tiff: rgb of 16 bits", lambda: tiff_of_pixels(wide(RGB)), ("16 bits per channel reduced to 8",)),
    ("tiff: lzma in tiles of 16 bits, predicted", lambda: _lzma_tiles(), ("16 bits per channel reduced to 8", TRANSPARENT)),
    ("tiff: planes", lambda: _planes(), ()),
    ("tiff: tiles", tiled_tiff, ()),
    ("tiff: three pages", lambda: encoded(PICTURE, "TIFF", save_all=True, append_images=[PICTURE.rotate(90), PICTURE.rotate(9)]), ("several pages: the first of 3 is judged",)),
    ("tiff: two pages, big", lambda: encoded(with_alpha(), "TIFF", big_tiff=True, save_all=True, append_images=[PICTURE.rotate(90)]), ("several pages: the first of 2 is judged", TRANSPARENT)),
    ("tiff: predictor", lambda: encoded(PICTURE, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}), ()),
    ("tiff: five samples", lambda: tiff_of_pixels(FIVE, _338=(3, [0, 0])), (FIVE_SAMPLES,)),
    ("tiff: five samples, alpha", lambda: tiff_of_pixels(FIVE, _338=(3, [2, 0])), (FIVE_SAMPLES, TRANSPARENT)),
    ("tiff: five samples, alpha associated", lambda: tiff_of_pixels(FIVE, _338=(3, [1, 0])), (FIVE_SAMPLES, TRANSPARENT)),
    *((f"tiff: five samples of {codec}, predictor {predictor}", partial(_five_packed, codec, predictor), (FIVE_SAMPLES, TRANSPARENT))
      for codec in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "lzma", "zstd") for predictor in (1, 2)),
    ("tiff: cmyk of 16 bits", lambda: tiff_of_pixels(wide(CMYK), 5), ("16 bits per channel reduced to 8", PLAIN_CMYK)),
    ("tiff: cmyk of 16 bits, predicted", lambda: tiff_of_pixels(np.diff(wide(CMYK), axis=1, prepend=wide(CMYK)[:, :1] * 0), 5, packed=zlib.compress, _259=(3, [8]), _317=(3, [2])), ("16 bits per channel reduced to 8", PLAIN_CMYK)),
    *((f"tiff: grey of {bits} bits, photometric {photometric}, tiled {tiled}, {name}", partial(_low_depth, bits, photometric, tiled, codec), ())
      for bits in (1, 2, 4) for photometric in (0, 1, 3) for tiled in (False, True) for name, codec in (("raw", 1), ("deflate", 8))),
    ("tiff: cmyk and a fifth sample", lambda: tiff_of_pixels(np.dstack([CMYK, GREY]), 5, _338=(3, [0])), (FIVE_SAMPLES, PLAIN_CMYK)),
    ("gif: first frame smaller than the screen", lambda: gif_frame_on_screen((128, 100), (10, 20)), ()),
    ("gif: frame larger than the screen", lambda: gif_frame_on_screen((40, 40), (0, 0)), ()),
    ("gif: frame beyond the screen", lambda: gif_frame_on_screen((60, 200), (30, 7)), ()),
    ("gif: small frame, transparent", lambda: _transparent_small_frame(), (TRANSPARENT,)),
    ("gif: transparent", lambda: encoded(with_hole(), "GIF"), (TRANSPARENT,)),
    ("gif: no last byte", lambda: GIF[:-1], (ENDS_EARLY,)),
    ("gif: four colours", lambda: encoded(PICTURE.quantize(4), "GIF"), ()),
    ("png: no IEND", lambda: PNG[:-12], (ENDS_EARLY,)),
    ("png: half of IEND", lambda: PNG[:-5], (ENDS_EARLY,)),
    ("png: acTL of no frames", lambda: png_with(png_chunk(b"acTL", bytes(8))), ()),
    ("png: 8 MB of iTXt", lambda: png_with(png_chunk(b"iTXt", b"parameters\0\0\0\0\0" + b"A" * 8_000_000)), ()),
    ("png: 8 MB of eXIf", lambda: png_with(png_chunk(b"eXIf", exif_block()[6:] + bytes(8_000_000))), ("EXIF orientation 6 ignored, as in training",)),
    ("png: 8 MB of caBX", lambda: png_with(png_chunk(b"caBX", bytes(9_000_000))), ()),
    ("png: 20 MB of zTXt, packed", lambda: png_with(png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000)))), ()),
    ("png: gamma", lambda: png_with(png_chunk(b"gAMA", struct.pack(">I", 20_000))), ()),
    ("png: palette with alpha", lambda: encoded(PICTURE.quantize(16), "PNG", transparency=bytes(range(16))), (TRANSPARENT,)),
    ("png: a transparent colour", lambda: encoded(PICTURE, "PNG", transparency=(1, 2, 3)), (TRANSPARENT,)),
    ("png: a background colour", lambda: _with_background(), (TRANSPARENT,)),
    ("bmp: runs", bmp_of_runs, ()),
    ("bmp: 16 bits", lambda: bmp_of_masks(16), ()),
    ("bmp: 16 bits, the top row first", lambda: bmp_of_masks(16, top_down=True), ()),
    *((f"bmp: masks {', '.join(f'{mask:x}' for mask in masks)}", partial(bmp_of_masks, bits, masks, header=header), (TRANSPARENT,) * (masks[3:] > (0,)))
      for bits, header, masks in BMP_MASKS),
    ("jpeg: sampling 1x3", lambda: _resampled(0x13), ()),
    ("jpeg: sampling 3x1", lambda: _resampled(0x31), ()),
    ("jpeg: sampling 4x2", lambda: _resampled(0x42), ()),
]  # fmt: skip


def _lzma_tiles() -> bytes:
    """Differences of neighbours in each tile, as libtiff's predictor has them."""
    tiles = [wide(RGBA)[y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32, 64)]
    packed = [lzma.compress(np.diff(tile, axis=1, prepend=tile[:, :1] * 0).tobytes()) for tile in tiles]
    places = [sum(map(len, packed[:index])) for index in range(6)]
    tags = {256: (3, [96]), 257: (3, [64]), 258: (3, [16] * 4), 259: (3, [34925]), 262: (3, [2]), 277: (3, [4]),
            317: (3, [2]), 322: (3, [32]), 323: (3, [32]), 324: (4, places), 325: (4, list(map(len, packed))),
            338: (3, [2])}  # fmt: skip
    return tiff_of(tags, b"".join(packed))


def _planes() -> bytes:
    planes = np.ascontiguousarray(np.moveaxis(RGB, 2, 0))
    plane = RGB[:, :, 0].size
    return tiff_of_pixels(planes, _284=(3, [2]), _273=(4, [0, plane, 2 * plane]), _279=(4, [plane] * 3))


def _transparent_small_frame() -> bytes:
    data = gif_frame_on_screen((128, 100), (10, 20))
    return data[:13] + b"\x21\xf9\4\1\0\0\5\0" + data[13:]


def _with_background() -> bytes:
    data = encoded(with_alpha(), "PNG")
    return data[:33] + png_chunk(b"bKGD", bytes([0, 255, 0, 0, 0, 0])) + data[33:]


def _resampled(luma: int) -> bytes:
    """A grey JPEG of three components' sampling cannot be made by Pillow: the first component's factors, as they would
    be written for one that has all blocks; the picture is of one colour, whose blocks are all alike."""
    data = bytearray(encoded(PIL.Image.new("RGB", (96, 96), (200, 90, 30)), "JPEG", subsampling=0, quality=95))
    data[data.index(b"\xff\xc0") + 11] = luma
    return bytes(data)


@pytest.mark.parametrize(("make", "notices"), [row[1:] for row in ODD], ids=[row[0] for row in ODD])
def test_odd_files_are_read_as_pillow_reads_them(make: Callable[[], bytes], notices: tuple[str, ...]) -> None:
    assert_like_pillow(make(), notices)


@pytest.mark.parametrize(
    ("make", "notice"),
    [
        (lambda: encoded(PIL.Image.fromarray(wide(GREY)), "PNG"), "16 bits per channel reduced to 8"),
        (lambda: encoded(PIL.Image.fromarray(wide(GREY)), "TIFF"), "16 bits per channel reduced to 8"),
        (lambda: encoded(PICTURE.convert("LAB"), "TIFF"), "CIELAB converted to RGB without a colour profile"),
    ],
)
def test_what_differs_from_pillow_says_so(make: Callable[[], bytes], notice: str) -> None:
    data = make()
    assert np.abs(load(data).pixels.astype(int) - pillows(data)).max() > 1
    assert load(data).info.notices == (notice,)


# Codecs that OpenCV makes a black picture of, without a word: all but those that its libtiff knows.
UNREAD_CODECS = {
    0: "compression 0", 9: "JBIG", 33005: "JPEG 2000", 34892: "lossy JPEG", 34926: "compression 34926", 34933: "PNG",
    34934: "JPEG XR", 50002: "JPEG XL", 52546: "JPEG XL", 65000: "compression 65000",
}  # fmt: skip
UNREAD_JPEGS = [
    (0xC1, 12, "12 bits per channel"), (0xC3, 16, "16 bits per channel"), (0xC5, 8, "hierarchical JPEG"),
    (0xCB, 8, "lossless JPEG of arithmetic coding"), (0xF7, 8, "JPEG-LS"),
]  # fmt: skip


def _jpeg_of_kind(marker: int, depth: int) -> bytes:
    data = bytearray(encoded(PICTURE, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, depth
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tiff_of_pixels(np.zeros((64, 96, 17), np.uint8)), "17 samples a pixel"),
        (lambda: tiff_of_pixels(RGB, _259=(3, [50001])), "WebP"),
        (lambda: tiff_of_pixels(RGB, _259=(3, [34887])), "LERC"),
        *((partial(tiff_of_pixels, RGB, _259=(3, [code])), name) for code, name in UNREAD_CODECS.items()),
        (lambda: tiff_of_pixels(RGB.astype("<u4")), "32 bits per channel"),
        (lambda: tiff_of_pixels(GREY.astype("<f4"), 1, _339=(3, [3])), "32-bit floating-point samples"),
        (
            lambda: tiff_of_pixels(GREY.astype("<f2"), 1, lzma.compress, _259=(3, [34925]), _339=(3, [3])),
            "16-bit floating-point samples",
        ),
        (lambda: tiff_of_pixels(LA, 1, _338=(3, [1])), "grey multiplied by its alpha"),
        (lambda: tiff_of_pixels(wide(GREY), 3, _320=(3, list(range(768)))), "palette of 16 bits"),
        *((partial(_jpeg_of_kind, marker, depth), name) for marker, depth, name in UNREAD_JPEGS),
    ],
)
def test_what_pillow_reads_and_we_do_not_is_refused_by_name(make: Callable[[], bytes], says: str) -> None:
    with pytest.raises((ImageFormatError, ValueError), match=says):
        load(make())


@pytest.mark.parametrize(
    ("bits", "masks"),
    [(16, (0xF00, 0xF0, 0xF)), (32, (0x3FF00000, 0xFFC00, 0x3FF)), (32, (0xFF, 0xFF, 0xFF00)), (24, (0xFF, 0xFF00, 0xFF0000))],
)  # fmt: skip
def test_a_bmp_of_other_masks_is_refused_by_name_as_by_pillow(bits: int, masks: tuple[int, ...]) -> None:
    data = bytearray(bmp_of_masks(32, masks))
    data[28] = bits
    with pytest.raises(ImageFormatError, match=f"BMP of {bits} bits per pixel with the colour masks {masks[0]:x}, "):
        load(bytes(data))
    with pytest.raises(OSError, match="Unsupported BMP bitfields layout"):
        pillows(bytes(data))


@pytest.mark.parametrize("alpha", [255, 128, 1, 0])
def test_a_heic_whose_colours_are_multiplied_by_alpha_is_divided_again(alpha: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    multiplied = np.dstack([(RGB.astype(int) * alpha // 255).astype(np.uint8), np.full_like(GREY, alpha)])
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGBa", PICTURE.size, multiplied.tobytes()).save(buffer, quality=100)
    image = load(buffer.getvalue())
    stored = pillow_heif.open_heif(buffer.getvalue())
    assert stored.mode == "RGBa"
    theirs = PIL.Image.frombytes("RGBa", PICTURE.size, np.ascontiguousarray(stored).tobytes()).convert("RGB")
    assert np.abs(image.pixels.astype(int) - np.asarray(theirs)).max() <= 1
    assert image.info.notices == (TRANSPARENT,)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_that_its_decoder_turns_is_said_to_be_turned(orientation: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = PICTURE.copy()
    picture.info["exif"] = exif_block(orientation)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=90)
    image = load(buffer.getvalue())
    assert image.info.orientation == 1
    assert not [notice for notice in image.info.notices if "ignored" in notice]
    theirs = np.asarray(pillow_heif.open_heif(buffer.getvalue(), convert_hdr_to_8bit=True))
    assert (image.pixels == theirs).all()
