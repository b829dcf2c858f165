"""Healthy files of every format and kind, and odd ones, made in code: what the fuzzer starts from."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import PIL.features
import PIL.Image
from glass_bench.sample import landscape
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """A file that is judged, or was once: `name` says what is special of it, `form` is its format."""

    form: str
    name: str
    data: bytes


PICTURE = PIL.Image.fromarray(landscape(96, 64, seed=1))


def corpus() -> list[Sample]:
    """All samples, in the same order each time; those of HEIC only where pillow_heif is installed."""
    made = [*_jpegs(), *_pngs(), *_webps(), *_gifs(), *_tiffs(), *_bmps(), *_avifs(), *_heics()]
    return [Sample(form, name, data) for form, name, data in made]


def encoded(picture: PIL.Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def with_alpha() -> PIL.Image.Image:
    picture = PICTURE.copy()
    picture.putalpha(PICTURE.convert("L"))
    return picture


def with_hole() -> PIL.Image.Image:
    """A corner is fully transparent: the one kind of alpha that GIF has."""
    picture = PICTURE.copy()
    alpha = PIL.Image.new("L", PICTURE.size, 255)
    alpha.paste(0, (0, 0, 30, 20))
    picture.putalpha(alpha)
    return picture


def by_opencv(suffix: str, pixels: NDArray[Any], *options: int) -> bytes:
    done, data = cv2.imencode(suffix, pixels, options)
    assert done
    return data.tobytes()


def exif_block(orientation: int = 6) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png_with(*extra: bytes) -> bytes:
    """The picture as PNG, with whole chunks before its pixels."""
    data = encoded(PICTURE, "PNG")
    return data[:33] + b"".join(extra) + data[33:]


def deep_pixels() -> NDArray[np.uint16]:
    """The picture in 16 bits, BGR."""
    return np.asarray(PICTURE)[:, :, ::-1].astype(np.uint16) * 257


Made = Iterator[tuple[str, str, bytes]]


def _jpegs() -> Made:
    yield "jpeg", "baseline", encoded(PICTURE, "JPEG")
    yield "jpeg", "progressive", encoded(PICTURE, "JPEG", progressive=True)
    yield "jpeg", "full colour", encoded(PICTURE, "JPEG", subsampling=0, quality=95)
    yield "jpeg", "grey", encoded(PICTURE.convert("L"), "JPEG")
    yield "jpeg", "cmyk", encoded(PICTURE.convert("CMYK"), "JPEG")
    yield "jpeg", "exif", encoded(PICTURE, "JPEG", exif=exif_block(), restart_marker_blocks=4)


def _pngs() -> Made:
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
        picture = with_alpha() if "A" in mode else PICTURE
        yield "png", mode, encoded(picture.convert(mode), "PNG")
    yield "png", "rgb of 16 bits", by_opencv(".png", deep_pixels())
    yield (
        "png",
        "exif and text",
        png_with(png_chunk(b"eXIf", exif_block()[6:]), png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(99)))),
    )
    frames = [PICTURE.rotate(90), PICTURE.rotate(10)]
    yield "png", "animated", encoded(PICTURE, "PNG", save_all=True, append_images=frames)


def _webps() -> Made:
    yield "webp", "lossy", encoded(PICTURE, "WEBP")
    yield "webp", "lossless", encoded(PICTURE, "WEBP", lossless=True)
    yield "webp", "lossy with alpha", encoded(with_alpha(), "WEBP", exif=exif_block())
    yield "webp", "lossless with alpha", encoded(with_alpha(), "WEBP", lossless=True)
    yield "webp", "animated", encoded(with_alpha(), "WEBP", save_all=True, append_images=[PICTURE.rotate(90)])


def _gifs() -> Made:
    yield "gif", "palette", encoded(PICTURE.convert("P"), "GIF", interlace=0)
    yield "gif", "interlaced", encoded(PICTURE.convert("P"), "GIF", interlace=1)
    yield "gif", "transparent", encoded(with_hole(), "GIF")
    yield "gif", "animated", encoded(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)])
    yield "gif", "small frame", gif_frame_on_screen((128, 100), (10, 20))


def gif_frame_on_screen(screen: tuple[int, int], corner: tuple[int, int]) -> bytes:
    """The picture as the frame of a GIF, at a corner of a screen, with a palette of its own."""
    data = encoded(PICTURE.quantize(64), "GIF", interlace=0)
    colours = 13 + (3 << ((data[10] & 7) + 1))
    palette, image = data[13:colours], data.index(b"\x2c", colours)
    place = struct.pack("<HHHHB", *corner, *PICTURE.size, 0x80 | data[10] & 7)
    return b"GIF89a" + struct.pack("<HH", *screen) + b"\x70\0\0\x2c" + place + palette + data[image + 10 :]


def _tiffs() -> Made:
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma"):
        yield "tiff", compression, encoded(PICTURE, "TIFF", compression=compression)
    for mode in ("RGBA", "L", "LA", "P", "CMYK", "1"):
        picture = with_alpha() if "A" in mode else PICTURE
        yield "tiff", mode, encoded(picture.convert(mode), "TIFF")
    yield "tiff", "fax", encoded(PICTURE.convert("1"), "TIFF", compression="group4")
    yield "tiff", "rgb of 16 bits", by_opencv(".tif", deep_pixels())
    yield "tiff", "big and turned", encoded(PICTURE, "TIFF", big_tiff=True, tiffinfo={0x0112: 6})
    yield "tiff", "tiled", tiled_tiff()


def tiff_of(tags: dict[int, tuple[int, list[int]]], payload: bytes) -> bytes:
    """A little-endian TIFF of these tags (type, values); offsets of pixels are counted from the payload's beginning."""
    codes = {1: "B", 3: "H", 4: "I", 16: "Q"}
    table = 8 + 2 + 12 * len(tags) + 4
    apart = sum(len(values) * struct.calcsize(codes[kind]) for kind, values in tags.values())
    pixels, entries, values_apart = table + apart, b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        placed = [value + pixels for value in values] if tag in (273, 324) else values
        packed = struct.pack(f"<{len(placed)}{codes[kind]}", *placed)
        entries += struct.pack("<HHI", tag, kind, len(values))
        if len(packed) > 4:
            entries += struct.pack("<I", table + len(values_apart))
            values_apart += packed
        else:
            entries += packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head + values_apart.ljust(apart, b"\0") + payload


def tiled_tiff() -> bytes:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[...] = np.asarray(PICTURE)
    tiles = b"".join(pixels[y : y + 32, x : x + 32].tobytes() for y in (0, 32) for x in (0, 32, 64))
    size = 32 * 32 * 3
    tags = {256: (3, [96]), 257: (3, [64]), 258: (3, [8, 8, 8]), 259: (3, [1]), 262: (3, [2]), 277: (3, [3]),
            322: (3, [32]), 323: (3, [32]), 324: (4, [size * i for i in range(6)]), 325: (4, [size] * 6)}  # fmt: skip
    return tiff_of(tags, tiles)


def _bmps() -> Made:
    for mode in ("RGB", "RGBA", "P", "L", "1"):
        picture = with_alpha() if "A" in mode else PICTURE
        yield "bmp", mode, encoded(picture.convert(mode), "BMP")
    yield "bmp", "runs", bmp_of_runs()
    yield "bmp", "16 bits", bmp_of_masks(16)
    yield "bmp", "masks", bmp_of_masks(32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF), header=108)


def bmp_of_runs() -> bytes:
    """8 bits, run-length encoded: every row one run."""
    rows = b"".join(bytes([96, row, 0, 0]) for row in range(64)) + b"\0\1"
    palette = b"".join(bytes([i, 255 - i, i, 0]) for i in range(256))
    head = struct.pack(
        "<IIIIiiHHIIIIII", 54 + 1024 + len(rows), 0, 54 + 1024, 40, 96, 64, 1, 8, 1, len(rows), 0, 0, 256, 0
    )
    return b"BM" + head + palette + rows


def bmp_of_masks(bits: int, masks: tuple[int, ...] = (), *, header: int = 40, top_down: bool = False) -> bytes:
    """A BMP whose colours, and alpha where there is a fourth mask, are bits of a number; without masks 555 of 16 bits."""
    values = np.asarray(with_alpha())[:: 1 if top_down else -1].astype(np.uint64)
    numbers = np.zeros(values.shape[:2], np.uint64)
    for channel, mask in enumerate(filter(None, masks or (0x7C00, 0x3E0, 0x1F))):
        shift = (mask & -mask).bit_length() - 1
        numbers |= values[:, :, channel] * (mask >> shift) // 255 << shift
    rows = numbers.astype(f"<u{bits // 8}").tobytes()  # of 96 pixels: nothing is added to a row
    fields = struct.pack(f"<{len(masks)}I", *masks)
    offset = 14 + max(header, 40 + len(fields))
    height = -64 if top_down else 64
    info = struct.pack("<IiiHHIIIIII", header, 96, height, 1, bits, 3 if masks else 0, len(rows), 0, 0, 0, 0)
    head = (info + fields).ljust(offset - 14, b"\0")
    return b"BM" + struct.pack("<III", offset + len(rows), 0, offset) + head + rows


def _avifs() -> Made:
    if not PIL.features.check("avif"):
        return
    yield "avif", "plain", encoded(PICTURE, "AVIF", speed=10)
    yield "avif", "with alpha", encoded(with_alpha(), "AVIF", speed=10)
    yield "avif", "turned", encoded(PICTURE, "AVIF", speed=10, exif=exif_block())
    yield "avif", "sequence", encoded(PICTURE, "AVIF", speed=10, save_all=True, append_images=[PICTURE.rotate(90)])
    deep = deep_pixels() >> 6
    yield "avif", "10 bits", by_opencv(".avif", deep, cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_SPEED, 10)


def _heics() -> Made:
    try:
        import pillow_heif
    except ImportError:
        return

    def heic(picture: PIL.Image.Image, **options: Any) -> bytes:
        buffer = io.BytesIO()
        pillow_heif.from_pillow(picture).save(buffer, **options)
        return buffer.getvalue()

    yield "heic", "plain", heic(PICTURE)
    yield "heic", "with alpha, cropped", heic(with_alpha().resize((90, 50)), chroma=444)
    turned = PICTURE.copy()
    turned.info["exif"] = exif_block()
    yield "heic", "turned", heic(turned)
    yield "heic", "grid", heic_grid(heic(PICTURE), rows=2, columns=2)


def heic_grid(tile: bytes, rows: int, columns: int, size: tuple[int, int] | None = None) -> bytes:
    """A HEIC of tiles that are all the same item; `size` where the grid states another than theirs together."""
    tables = _heic_tables(tile)
    width, height = size or (PICTURE.width * columns, PICTURE.height * rows)
    grid = bytes([0, 1, rows - 1, columns - 1]) + struct.pack(">II", width, height)
    infe = _full(b"infe", struct.pack(">HH4s", 1, 0, b"hvc1") + b"\0", version=2)
    infe += _full(b"infe", struct.pack(">HH4s", 2, 0, b"grid") + b"\0", version=2)
    tiles = [1] * (rows * columns)
    dimg = _box(b"dimg", struct.pack(f">HH{len(tiles)}H", 2, len(tiles), *tiles))
    properties = tables.configuration + _ispe(*PICTURE.size) + _ispe(width, height)
    ipma = _full(b"ipma", struct.pack(">IHBBBHBB", 2, 1, 2, 0x81, 2, 2, 1, 3))

    def meta(offset: int) -> bytes:
        # item 1 lies in the file, item 2 in `idat`
        places = struct.pack(">BBHHHHHII", 0x44, 0, 2, 1, 0, 0, 1, offset, len(tables.coded))
        places += struct.pack(">HHHHII", 2, 1, 0, 1, 0, len(grid))
        return _full(
            b"meta",
            _full(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + _full(b"pitm", struct.pack(">H", 2))
            + _full(b"iloc", places, version=1)
            + _full(b"iinf", struct.pack(">H", 2) + infe)
            + _full(b"iref", dimg)
            + _box(b"iprp", _box(b"ipco", properties) + ipma)
            + _box(b"idat", grid),
        )

    head = _box(b"ftyp", b"heic\0\0\0\0mif1heic")
    return head + meta(len(head) + len(meta(0)) + 8) + _box(b"mdat", tables.coded)


@dataclass(frozen=True)
class _HeicTables:
    configuration: bytes  # the box hvcC, whole
    coded: bytes


def _heic_tables(data: bytes) -> _HeicTables:
    at = data.index(b"hvcC") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    pixels = data.index(b"mdat") + 4
    return _HeicTables(data[at : at + length], data[pixels:])


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def _full(kind: bytes, payload: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]) + payload)


def _ispe(width: int, height: int) -> bytes:
    return _full(b"ispe", struct.pack(">II", width, height))
