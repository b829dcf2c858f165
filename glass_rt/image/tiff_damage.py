"""Damage in the strips of a TIFF of Deflate, found by inflating them: OpenCV does not pass on what libtiff says of it.

The pixels are OpenCV's all the same. Strips of LZW and PackBits have no check value to compare, and are not looked at.
"""

from __future__ import annotations

import zlib

from glass_rt.errors import ImageCorrupt
from glass_rt.image import exif
from glass_rt.image.exif import Directory
from glass_rt.image.header import tiff

DEFLATE, OLD_DEFLATE = 8, 32946
PIECE = 1 << 20  # bytes inflated at once, and let go
_FED = 1 << 16  # compressed bytes at once
_FILL_ORDER, _YCBCR = 266, 6
_MOST_BESIDE = 64 << 20  # bytes; tiles that lie far over the edge of an image may be many times its size


def check_deflated(data: bytes) -> None:
    """Raises ImageCorrupt where a strip or tile of a TIFF of Deflate is damaged or ends early, as Pillow does.

    TIFFs of other codecs pass. Takes PIECE of memory.
    """
    directory = exif.first_directory(data)
    if directory.first(tiff.COMPRESSION, 1) not in (DEFLATE, OLD_DEFLATE) or directory.first(_FILL_ORDER, 1) != 1:
        return
    tiled = directory.find(tiff.TILE_WIDTH) is not None
    sizes = _sizes(directory, tiled)
    if sum(sizes) > 4 * directory.first(tiff.WIDTH, 0) * directory.first(tiff.LENGTH, 0) * 8 + _MOST_BESIDE:
        return
    offsets, counts = (
        directory.values(entry, len(sizes)) if (entry := directory.find(tag)) else ()
        for tag in ((tiff.TILE_OFFSETS, tiff.TILE_COUNTS) if tiled else (tiff.OFFSETS, tiff.COUNTS))
    )
    whole = memoryview(directory.tiff)
    # Colours of YCbCr may be stored at a part of the size: how much is to come is then not known here.
    exact = directory.first(tiff.PHOTOMETRIC, 0) != _YCBCR
    for number, (offset, count, size) in enumerate(zip(offsets, counts, sizes, strict=False), start=1):
        try:
            came = _inflated(whole[offset : offset + count], size)
        except zlib.error as error:
            raise ImageCorrupt(f"{_named(tiled)} {number} of the TIFF is damaged: {error}") from None
        if exact and came < size:
            raise ImageCorrupt(f"{_named(tiled)} {number} of the TIFF ends early: {came} of {size} bytes came")


def _named(tiled: bool) -> str:
    return "tile" if tiled else "strip"


def _sizes(directory: Directory, tiled: bool) -> list[int]:
    """Bytes of every strip or tile once it is inflated, plane after plane where they are apart."""
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
    return plane * planes


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
