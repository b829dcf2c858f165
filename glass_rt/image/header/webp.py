"""WebP: a walk over all chunks (RFC 9649, section 2), whose sizes must agree."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from glass_rt.errors import ImageCorrupt
from glass_rt.image import exif
from glass_rt.image.header.header import Header

MOST_CHUNKS = 100_000  # an animation has one or two chunks a frame
_CHUNK = struct.Struct("<4sI")
_ALPHA, _EXIF, _ANIMATION = 0x10, 0x08, 0x02  # flags of VP8X


def read_webp(data: bytes) -> Header:
    """VP8X, VP8L or VP8 comes first and gives the size; the bit stream of a still picture repeats it."""
    kind = data[12:16]
    if kind in (b"VP8 ", b"VP8L"):
        (length,) = struct.unpack_from("<I", data, 16)
        if 20 + length > len(data):
            raise ImageCorrupt("the WebP ends inside its pixels")
        width, height, transparent = _bit_stream(data, kind, 20)
        return Header("webp", width, height, transparent=transparent)
    if kind != b"VP8X":
        raise ImageCorrupt(f"the WebP starts with an unknown chunk {kind!r}")
    flags = data[20]
    width, height = _size24(data, 24)
    animated = bool(flags & _ANIMATION)
    orientation, seen = 1, False
    notices: tuple[str, ...] = ()
    for chunk, start, end in _chunks(data, 12, len(data)):
        if chunk == b"EXIF" and flags & _EXIF:
            orientation, notices = exif.orientation(data[start:end])
        elif chunk == b"VP8X" and start != 20:
            raise ImageCorrupt("the WebP has several VP8X chunks")
        elif chunk == b"ANMF" and animated:
            _check_animation_frame(data, start, end, width, height)
            seen = True
        elif chunk in (b"VP8 ", b"VP8L") and not animated:
            if not seen:
                _check_same(_bit_stream(data, chunk, start)[:2], (width, height))
            seen = True
    if not seen:
        raise ImageCorrupt("the WebP has no pixels")
    return Header(
        "webp", width, height, orientation, transparent=bool(flags & _ALPHA), animated=animated, notices=notices
    )


def _chunks(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte of its payload, one past the last) of each chunk up to `end`."""
    for _ in range(MOST_CHUNKS):
        if position + 8 > end:
            return
        kind, length = _CHUNK.unpack_from(data, position)
        start = position + 8
        if start + length > end:
            raise ImageCorrupt(f"the WebP ends inside a chunk of {length} bytes")
        yield kind, start, start + length
        position = start + length + (length & 1)
    raise ImageCorrupt(f"the WebP has more than {MOST_CHUNKS} chunks")


def _size24(data: bytes, at: int) -> tuple[int, int]:
    return 1 + int.from_bytes(data[at : at + 3], "little"), 1 + int.from_bytes(data[at + 3 : at + 6], "little")


def _bit_stream(data: bytes, kind: bytes, start: int) -> tuple[int, int, bool]:
    """Width, height and transparency by the bit stream that starts there (RFC 6386, 9.1; RFC 9649, 3.4)."""
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, start + 6)
        return width & 0x3FFF, height & 0x3FFF, False
    (bits,) = struct.unpack_from("<I", data, start + 1)
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)


def _check_animation_frame(data: bytes, start: int, end: int, width: int, height: int) -> None:
    left, top = (2 * int.from_bytes(data[at : at + 3], "little") for at in (start, start + 3))
    size = _size24(data, start + 6)
    if left + size[0] > width or top + size[1] > height:
        raise ImageCorrupt(f"a frame of the WebP lies outside its {width} x {height} pixels")
    for chunk, inner, _ in _chunks(data, start + 16, end):
        if chunk in (b"VP8 ", b"VP8L"):
            _check_same(_bit_stream(data, chunk, inner)[:2], size)
            return


def _check_same(coded: tuple[int, int], stated: tuple[int, int]) -> None:
    if coded != stated:
        raise ImageCorrupt(f"the WebP says {stated[0]} x {stated[1]} pixels; {coded[0]} x {coded[1]} are coded")
