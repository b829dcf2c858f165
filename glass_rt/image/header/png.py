"""PNG: a walk over all chunks (PNG 3rd edition, 5.3 and 11.2), and those of them that make the picture."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from glass_rt.errors import ImageCorrupt
from glass_rt.image import exif
from glass_rt.image.header.header import Header, Piece
from glass_rt.image.header.inflation import check_inflation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 100_000  # 65 million pixels in chunks of 8 KB, as libpng writes, are 25,000 at most
END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_CHUNK = struct.Struct(">I4s")
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_FIRST = 33  # byte behind the signature and IHDR
_AROUND = 12  # bytes of a chunk beside its payload: length, kind, checksum


@dataclass
class _Found:
    """What the chunks before and of the pixels said."""

    orientation: int = 1
    transparent: bool = False
    animated: bool = False
    ended: bool = False
    notices: tuple[str, ...] = ()
    pixels: slice | None = None  # the first run of IDAT
    pieces: list[Piece] = field(default_factory=lambda: [slice(0, _FIRST)])


def read_png(data: bytes) -> Header:
    """IHDR, the notes that concern pixels, and the first run of IDAT.

    The decoder is given nothing else: libpng would inflate each text, hold each profile and refuse large ones.
    """
    if data[8:16] != b"\0\0\0\rIHDR":
        raise ImageCorrupt("the PNG does not start with an IHDR chunk")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    found = _read_chunks(data)
    pieces, notices = found.pieces, found.notices
    if found.pixels:  # where there are none, the decoder says so: the size may already be too large
        _check_inflation(data, found.pixels.start, found.pixels.stop, width * height, depth, colour)
        pieces.append(found.pixels)
    if not found.ended:
        notices = (*notices, "the file ends early, behind its pixels")
    return Header(
        "png",
        width,
        height,
        found.orientation,
        max(depth, 8),
        transparent=found.transparent or colour in (4, 6),
        animated=found.animated,
        pieces=(*pieces, END),
        notices=notices,
    )


def _read_chunks(data: bytes) -> _Found:
    """What the chunks behind IHDR say. Raises ImageCorrupt."""
    found = _Found()
    position, size, chunks = _FIRST, len(data), 0
    while position + 8 <= size and not found.ended:
        length, kind = _CHUNK.unpack_from(data, position)
        end = position + _AROUND + length
        chunks += 1
        if end > size:
            if kind == b"IDAT" or not found.pixels:
                raise ImageCorrupt(f"the PNG ends inside a chunk of {length} bytes")
            break
        if chunks > MOST_CHUNKS:
            raise ImageCorrupt(f"the PNG has more than {MOST_CHUNKS} chunks")
        _take_chunk(found, kind, data, position, end)
        position = end
    return found


def _take_chunk(found: _Found, kind: bytes, data: bytes, position: int, end: int) -> None:
    """Adds what the chunk of `data[position:end]` says."""
    if kind == b"IDAT":
        if not found.pixels:
            found.pixels = slice(position, end)
        elif found.pixels.stop == position:
            found.pixels = slice(found.pixels.start, end)
    elif kind == b"eXIf" and not found.notices:
        found.orientation, found.notices = exif.orientation(data[position + 8 : end - 4])
    elif kind in (b"PLTE", b"tRNS") and not found.pixels:
        found.pieces.append(slice(position, end))
        found.transparent |= kind == b"tRNS"
    elif kind == b"acTL":
        found.animated |= data[position + 8 : end - 4][:4] > b"\0\0\0\1"
    found.ended = kind == b"IEND"


def _check_inflation(data: bytes, start: int, end: int, pixels: int, depth: int, colour: int) -> None:
    whole = memoryview(data)[start:end]

    def parts() -> Iterator[memoryview]:
        position = 0
        while position < len(whole):
            (length,) = struct.unpack_from(">I", whole, position)
            yield whole[position + 8 : position + 8 + length]
            position += _AROUND + length

    check_inflation(parts(), whole, pixels * _SAMPLES.get(colour, 4) * max(depth, 8) // 8)
