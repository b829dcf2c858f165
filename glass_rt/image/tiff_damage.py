"""Damage in the strips of a TIFF of Deflate or LZW, found by unpacking them: OpenCV does not pass on libtiff's word.

It does so for pictures of 16 bits, as which strips of LZW are read here. The pixels are OpenCV's all the same. Every
byte is one of PackBits, which has no damage to find.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from glass_rt.errors import ImageCorrupt
from glass_rt.image import exif
from glass_rt.image.exif import Directory
from glass_rt.image.header import tiff
from glass_rt.image.tiff_blocks import LZW, strip_of_words

DEFLATE, OLD_DEFLATE = 8, 32946
PIECE = 1 << 20  # bytes inflated at once, and let go
_FED = 1 << 16  # compressed bytes at once
_FILL_ORDER, _YCBCR = 266, 6
_MOST_OF_OPENCV = 1 << 20  # pixels of a side
_MOST_BESIDE = 64 << 20  # bytes; tiles that lie far over the edge of an image may be many times its size


def check_deflated(data: bytes) -> None:
    """Raises ImageCorrupt where a strip or tile of a TIFF of Deflate is damaged or ends early, as Pillow does.

    TIFFs of other codecs pass. Takes PIECE of memory.
    """
    directory = exif.first_directory(data)
    if directory.first(tiff.COMPRESSION, 1) not in (DEFLATE, OLD_DEFLATE) or directory.first(_FILL_ORDER, 1) != 1:
        return
    # Colours of YCbCr may be stored at a part of the size: how much is to come is then not known here.
    exact = directory.first(tiff.PHOTOMETRIC, 0) != _YCBCR
    for name, packed, _, size in _parts(directory):
        try:
            came = _inflated(packed, size)
        except zlib.error as error:
            raise ImageCorrupt(f"{name} of the TIFF is damaged: {error}") from None
        if exact and came < size:
            raise ImageCorrupt(f"{name} of the TIFF ends early: {came} of {size} bytes came")


def check_lzw(data: bytes) -> None:
    """Raises ImageCorrupt where a strip or tile of a TIFF of LZW is damaged or ends early, as Pillow does.

    TIFFs of other codecs pass, and those of YCbCr, of which it is not known how much is to come. Takes the memory of
    one strip three times.
    """
    directory = exif.first_directory(data)
    if directory.first(tiff.COMPRESSION, 1) != LZW or directory.first(tiff.PHOTOMETRIC, 0) == _YCBCR:
        return
    fill_order = directory.first(_FILL_ORDER, 1)
    for name, packed, row_bytes, size in _parts(directory):
        words, rows = _as_words(row_bytes, size)
        if not words or max(words, rows) > _MOST_OF_OPENCV:
            continue
        strip = np.frombuffer(strip_of_words(packed, rows, words, LZW, fill_order), np.uint8)
        if cv2.imdecode(strip, cv2.IMREAD_UNCHANGED) is None:
            raise ImageCorrupt(f"{name} of the TIFF is damaged or ends early")


def _as_words(row_bytes: int, size: int) -> tuple[int, int]:
    """Words of 16 bits in a row, and rows, of a picture of these bytes; short of an odd last one, or of one row."""
    if size // 2 <= _MOST_OF_OPENCV:
        return size // 2, 1
    rows = size // row_bytes
    return (row_bytes // 2, rows) if row_bytes % 2 == 0 else (row_bytes, rows // 2)


def _parts(directory: Directory) -> Iterator[tuple[str, memoryview, int, int]]:
    """Of each strip or tile its name, its packed bytes, and how many bytes a row and the whole have once unpacked.

    None where they are out of proportion to the picture.
    """
    tiled = directory.find(tiff.TILE_WIDTH) is not None
    row_bytes, sizes = _sizes(directory, tiled)
    if sum(sizes) > 4 * directory.first(tiff.WIDTH, 0) * directory.first(tiff.LENGTH, 0) * 8 + _MOST_BESIDE:
        return
    offsets, counts = (
        directory.values(entry, len(sizes)) if (entry := directory.find(tag)) else ()
        for tag in ((tiff.TILE_OFFSETS, tiff.TILE_COUNTS) if tiled else (tiff.OFFSETS, tiff.COUNTS))
    )
    whole = memoryview(directory.tiff)
    for number, (offset, count, size) in enumerate(zip(offsets, counts, sizes, strict=False), start=1):
        yield f"{_named(tiled)} {number}", whole[offset : offset + count], row_bytes, size


def _named(tiled: bool) -> str:
    return "tile" if tiled else "strip"


def _sizes(directory: Directory, tiled: bool) -> tuple[int, list[int]]:
    """Bytes of a row, and of every strip or tile once it is inflated, plane after plane where they are apart."""
    width, height = directory.first(tiff.WIDTH, 0), directory.first(tiff.LENGTH, 0)
    samples, bits = directory.first(tiff.SAMPLES, 1), directory.first(tiff.BITS, 1)
    planes = samples if directory.first(tiff.PLANES, 1) == 2 else 1
    columns = directory.first(tiff.TILE_WIDTH, 0) if tiled else width
    rows = directory.first(tiff.TILE_LENGTH if tiled else tiff.ROWS_PER_STRIP, height)
    rows = rows if tiled else min(rows or height, height)
    row_bytes = -(-columns * (samples // planes) * bits // 8)
    across, down = -(-width // columns), -(-height // rows)
    plane = [rows * row_bytes] * (across * down)
    if not tiled:
        plane[-1] = (height - rows * (down - 1)) * row_bytes
    return row_bytes, plane * planes


def _inflated(packed: memoryview, size: int) -> int:
    """How many bytes come out of a stream, up to `size`. Raises zlib.error."""
    stream, came = zlib.decompressobj(), 0
    for start in range(0, len(packed), _FED):
        left: memoryview | bytes = packed[start : start + _FED]
        while came < size and not stream.eof:
            out = len(stream.decompress(left, min(PIECE, size - came)))
            came += out
            left = stream.unconsumed_tail
            if not out and not left:
                break
        if came >= size or stream.eof:
            break
    return came
