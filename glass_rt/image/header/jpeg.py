"""JPEG: marker segments up to the first scan (ITU-T T.81, B.1.1 and B.2.2)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import replace

from glass_rt.errors import ImageCorrupt, ImageFormatError
from glass_rt.image import exif
from glass_rt.image.header.header import Header
from glass_rt.image.header.jpeg_quality import quality_of_table

# Of one file; cameras and editors write about ten. A scan of a few hundred bytes goes over all pixels.
MOST_SCANS = 500
# Scans times pixels. A scan without bits costs 0.4 ns a pixel: less than three seconds, and 200 megapixels in 32 scans.
MOST_SCANNED_PIXELS = 6_400_000_000
MOST_SEGMENTS = 20_000  # before the first scan; a profile or a preview of 64 MB has a thousand
_FILL = re.compile(rb"\xff+")
_SOS, _EOI, _DQT = 0xDA, 0xD9, 0xDB
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # DHT, JPG, DAC lie among the frame headers
# Kinds that no decoder here reads, by their frame headers (T.81, table B.1; T.87 for JPEG-LS).
_HIERARCHICAL, _LOSSLESS_ARITHMETIC, _JPEG_LS = (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), 0xCB, 0xF7
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)


def read_jpeg(data: bytes) -> Header:
    """Size, depth and colours by the frame header; orientation by the first EXIF block; quality by the table 0."""
    orientation = 1
    quality: int | None = None
    notices: tuple[str, ...] = ()
    frame: tuple[int, int, int, int, int] | None = None
    for marker, start, end in segments(data):
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            orientation, notices = exif.orientation(data[start:end])
        elif marker == _DQT and quality is None:
            quality = _quality(data[start:end])
        elif marker == _SOS:
            if frame is None:
                break
            return replace(_header(data, frame, start, orientation, notices), jpeg_quality=quality)
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            if frame is not None:
                raise ImageCorrupt("the JPEG has several frame headers before its first scan")
            frame = (marker, *struct.unpack_from(">BHHB", data, start))
            _check_kind(marker, frame[1])
        elif marker == _JPEG_LS:
            _check_kind(marker, data[start])
    if frame is None:
        raise ImageCorrupt("the JPEG has no frame header")
    raise ImageCorrupt("the JPEG has no pixels")


def _check_kind(marker: int, depth: int) -> None:
    """Raises ImageFormatError for a kind of JPEG that is not read, by its name."""
    names = {_JPEG_LS: "JPEG-LS", _LOSSLESS_ARITHMETIC: "lossless JPEG of arithmetic coding"}
    kind = names.get(marker) or ("hierarchical JPEG" if marker in _HIERARCHICAL else "")
    kind = kind or (f"JPEG of {depth} bits per channel" if depth != 8 else "")
    if kind:
        raise ImageFormatError(f"a {kind} is not supported; save it as a usual JPEG or as PNG")


def _header(
    data: bytes, frame: tuple[int, int, int, int, int], scan: int, orientation: int, notices: tuple[str, ...]
) -> Header:
    marker, depth, height, width, components = frame
    # Coefficients of all scans are kept where one alone is not the picture, in sequential files too.
    several = marker in _PROGRESSIVE or data[scan] < components
    if several:
        scans = data.count(b"\xff\xda", scan) + 1
        if scans > MOST_SCANS:
            raise ImageCorrupt(f"the JPEG has {scans} scans; at most {MOST_SCANS} are decoded")
        if scans * width * height > MOST_SCANNED_PIXELS:
            raise ImageCorrupt(
                f"the JPEG has {scans} scans of {width} x {height} pixels, {scans * width * height / 1e9:.1f} billion "
                f"pixels in all; at most {MOST_SCANNED_PIXELS / 1e9:.1f} billion are decoded"
            )
    return Header("jpeg", width, height, orientation, depth, components == 4, several, notices=notices)


def _quality(tables: bytes) -> int | None:
    """By the table of number 0 among those of a DQT segment, which every encoder uses for brightness; None without."""
    position = 0
    while position < len(tables):
        wide, number = tables[position] >> 4, tables[position] & 15
        end = position + 1 + (128 if wide else 64)
        if number == 0:
            return quality_of_table(tables[position + 1 : end], wide=bool(wide))
        position = end
    return None


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, first byte of its payload, one past the last) up to the first scan or the end of the image."""
    position = 2
    for _ in range(MOST_SEGMENTS):
        fill = _FILL.search(data, position)  # whatever lies before is skipped, as libjpeg does
        if fill is None:
            return
        position = fill.end() + 1
        marker = data[position - 1]
        if marker == _EOI:
            return
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # no payload
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if position + length > len(data):
            raise ImageCorrupt("the file ends inside its header")
        yield marker, position + 2, position + length
        position += max(length, 2)
    raise ImageCorrupt(f"the JPEG has more than {MOST_SEGMENTS} segments before its pixels")
