"""JPEGs of every kind and oddity, made for tests: what a decoder on the device may be given, and what it may not."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

HEIGHT, WIDTH = 1001, 1003  # just over 1 megapixel, and no whole number of blocks
Make = Callable[[], bytes]


@cache
def picture(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """RGB with smooth colours, an edge and noise."""
    rows, columns, phases = np.arange(height)[:, None, None] / 90, np.arange(width)[:, None] / 70, np.arange(3)
    noise = np.random.default_rng(height).integers(-12, 13, (height, width, 3))
    smooth = 128 + 90 * np.sin(rows + phases) * np.cos(columns - phases)
    smooth[height // 3 : height // 2] += 25
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def by_opencv(*settings: int, grey: bool = False, size: tuple[int, int] = (HEIGHT, WIDTH), form: str = ".jpg") -> bytes:
    """The picture written with IMWRITE flags and their values."""
    pixels = picture(*size)
    done, encoded = cv2.imencode(form, pixels[..., 1] if grey else pixels[..., ::-1], list(settings))
    assert done
    return encoded.tobytes()


def by_pillow(mode: str = "RGB", **settings: Any) -> bytes:
    """The picture in one of Pillow's modes, written with settings of its JPEG plug-in."""
    out = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(out, "jpeg", **settings)
    return out.getvalue()


def sampled(factors: int, *more: int) -> bytes:
    """With the sampling of an IMWRITE_JPEG_SAMPLING_FACTOR."""
    return by_opencv(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors, *more)


@cache
def plain() -> bytes:
    """Baseline, 4:2:0, quality 90."""
    return by_opencv(cv2.IMWRITE_JPEG_QUALITY, 90)


@cache
def restarted() -> bytes:
    """With a restart marker after every second row of blocks and a half."""
    return by_opencv(cv2.IMWRITE_JPEG_RST_INTERVAL, 157)


def turned() -> bytes:
    """With EXIF orientation 6."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return by_pillow(quality=90, exif=exif.tobytes())


def with_profile() -> bytes:
    """With the profile of another colour space, which no decoder here applies."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    return by_pillow(quality=90, icc_profile=profile)


def adobe(transform: int) -> bytes:
    """With Adobe's marker, which says what the colours are."""
    payload = b"Adobe\0\x64\0\0\0\0" + bytes((transform,))
    return _inserted(plain(), b"\xff\xee" + struct.pack(">H", len(payload) + 2) + payload)


def without(marker: int) -> bytes:
    """Without the segments of a marker, whose tables another file is meant to have."""
    data, kept = plain(), [b"\xff\xd8"]
    position = 2
    while data[position + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, position + 2)
        if data[position + 1] != marker:
            kept.append(data[position : position + 2 + length])
        position += 2 + length
    return b"".join((*kept, data[position:]))


def taller(data: bytes) -> bytes:
    """A file whose header promises twice as many rows as it has."""
    frame = data.index(b"\xff\xc0")
    (height,) = struct.unpack_from(">H", data, frame + 5)
    return data[: frame + 5] + struct.pack(">H", 2 * height) + data[frame + 7 :]


def renamed_components(names: bytes) -> bytes:
    """With other identifiers of its components, in both headers; without JFIF's marker, which overrules them."""
    data = bytearray(without(0xE0))
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    for index, name in enumerate(names):
        data[frame + 10 + 3 * index] = name
        data[scan + 5 + 2 * index] = name
    return bytes(data)


def changed_kind(marker: int) -> bytes:
    """A frame header of another kind before the same pixels."""
    return plain().replace(b"\xff\xc0", bytes((0xFF, marker)), 1)


def restart_markers(data: bytes) -> list[int]:
    """Where they are."""
    return [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data[: len(data)]) if found.start() > 600]


def one_restart_less() -> bytes:
    """One restart marker is gone, and the data before it with it."""
    places = restart_markers(restarted())
    return restarted()[: places[2]] + restarted()[places[3] :]


def huffman(counts: bytes, symbols: bytes, number: int = 0) -> bytes:
    """With one more Huffman table before its own."""
    payload = bytes((number,)) + counts + symbols
    return _inserted(plain(), b"\xff\xc4" + struct.pack(">H", len(payload) + 2) + payload)


def _inserted(data: bytes, segment: bytes, at: int = 2) -> bytes:
    return data[:at] + segment + data[at:]


# What the device may be given. By name: the file, and what it has to be given of it (None: all of it).
READ: dict[str, Make] = {
    "4:2:0": plain,
    "4:2:2": lambda: sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
    "4:4:4": lambda: sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "4:4:0": lambda: sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
    "grey": lambda: by_opencv(grey=True),
    "restart markers": restarted,
    "restart markers, 4:4:4": lambda: sampled(
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, cv2.IMWRITE_JPEG_RST_INTERVAL, 1000
    ),
    "restart markers, grey": lambda: by_opencv(cv2.IMWRITE_JPEG_RST_INTERVAL, 700, grey=True),
    "tables made for it": lambda: by_opencv(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "quality 30": lambda: by_opencv(cv2.IMWRITE_JPEG_QUALITY, 30),
    "quality 100": lambda: by_opencv(cv2.IMWRITE_JPEG_QUALITY, 100),
    "turned": turned,
    "a profile": with_profile,
    "Adobe's marker, YCbCr": lambda: adobe(1),
    "a film behind it": lambda: plain() + b"\xff\xd8\xff\xd0film" * 1000,
    "fill bytes before its end": lambda: plain()[:-2] + b"\xff\xff\xff\xd9",
}
# What is decoded on the CPU: the file, and a word of the reason.
REFUSED: dict[str, tuple[Make, str]] = {
    "progressive": (lambda: by_opencv(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "progressive"),
    "4:1:1": (lambda: sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411), "sampling"),
    "RGB": (lambda: by_pillow(keep_rgb=True), "RGB"),
    "RGB by the names of its components": (lambda: renamed_components(b"RGB"), "RGB"),
    "Adobe's marker, RGB": (lambda: adobe(0), "RGB"),
    "two components of one name": (lambda: renamed_components(b"\1\2\2"), "unusual"),
    "CMYK": (lambda: by_pillow("CMYK"), "number of components"),
    "small": (lambda: by_opencv(size=(999, 1000)), "under 1 megapixel"),
    "PNG": (lambda: by_opencv(form=".png"), "not a JPEG"),
    "extended sequential": (lambda: changed_kind(0xC1), "extended"),
    "arithmetic coding": (lambda: changed_kind(0xC9), "arithmetic"),
    "no Huffman tables": (lambda: without(0xC4), "tables"),
    "a Huffman table of too many codes": (lambda: huffman(b"\0\5" + bytes(14), bytes(5)), "tables"),
    "a Huffman table with a code of ones": (lambda: huffman(b"\2" + bytes(15), b"\1\2"), "tables"),
    "a Huffman table of too many bits": (lambda: huffman(b"\0\2" + bytes(14), b"\1\x0c"), "tables"),
    "a Huffman table without codes": (lambda: huffman(bytes(16), b""), "tables"),
    "a Huffman table that is cut short": (lambda: huffman(b"\0\2" + bytes(14), b"\1"), "tables"),
    "a third Huffman table": (lambda: huffman(b"\0\2" + bytes(14), b"\1\2", number=2), "tables"),
    "a quantisation table of 16 bits": (
        lambda: _inserted(plain(), b"\xff\xdb\0\x83\x10" + bytes((0, 9)) * 64),
        "tables",
    ),
    "a table that is missing": (lambda: plain().replace(b"\3\x11\1\xff", b"\3\x11\3\xff", 1), "tables"),
    "a marker that means nothing": (lambda: _inserted(plain(), b"\xff\x22\0\4ab"), "marker"),
    "a segment shorter than its length": (lambda: _inserted(plain(), b"\xff\xe5\0\1"), "length"),
    "a restart interval of three bytes": (lambda: _inserted(plain(), b"\xff\xdd\0\5\0\0\0"), "length"),
    "no quantisation tables": (lambda: without(0xDB), "tables"),
    "cut in half": (lambda: plain()[: len(plain()) // 2], "without an end"),
    "cut before its end marker": (lambda: plain()[:-2], "without an end"),
    "cut in its end marker": (lambda: plain()[:-1], "without an end"),
    "a restart marker less": (one_restart_less, "markers"),
    "restarted, cut and ended": (lambda: restarted()[: restart_markers(restarted())[3]] + b"\xff\xd9", "markers"),
    "restarted, twice as tall by its header": (lambda: taller(restarted()), "markers"),
    "a restart marker that no interval asks for": (
        lambda: plain()[: len(plain()) // 2] + b"\xff\xd0" + plain()[len(plain()) // 2 :],
        "markers",
    ),
    "its number of lines behind the scan": (lambda: plain()[:-2] + b"\xff\xdc\0\4\3\xe9\xff\xd9", "markers"),
}
