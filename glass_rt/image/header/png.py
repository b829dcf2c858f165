"""PNG: a walk over all chunks (PNG 3rd edition, 5.3 and 11.2), and those of them that make the picture."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from glass_rt.errors import ImageCorrupt
from glass_rt.image import exif
from glass_rt.image.header.header import Header, Piece
from glass_rt.image.header.inflation import check_inflation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 100_000  # 65 million pixels in chunks of 8 KB, as libpng writes, are 25,000 at most
END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_CHUNK = struct.Struct(">I4s")
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_AROUND = 12  # bytes of a chunk beside its payload: length, kind, checksum


def read_png(data: bytes) -> Header:
    """IHDR, the notes that concern pixels, and the first run of IDAT.

    The decoder is given nothing else: libpng would inflate each text, hold each profile and refuse large ones.
    """
    if data[8:16] != b"\0\0\0\rIHDR":
        raise ImageCorrupt("the PNG does not start with an IHDR chunk")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    orientation, transparent, animated, ended = 1, colour in (4, 6), False, False
    notices: tuple[str, ...] = ()
    pixels: list[int] = []  # the first byte of the first IDAT of a run, one past the last
    pieces: list[Piece] = [slice(0, 33)]
    position, size, chunks = 33, len(data), 0
    while position + 8 <= size and not ended:
        length, kind = _CHUNK.unpack_from(data, position)
        end = position + _AROUND + length
        chunks += 1
        if end > size:
            if kind == b"IDAT" or not pixels:
                raise ImageCorrupt(f"the PNG ends inside a chunk of {length} bytes")
            break
        if chunks > MOST_CHUNKS:
            raise ImageCorrupt(f"the PNG has more than {MOST_CHUNKS} chunks")
        if kind == b"IDAT":
            if not pixels:
                pixels = [position, end]
            elif pixels[1] == position:
                pixels[1] = end
        elif kind == b"eXIf" and not notices:
            orientation, notices = exif.orientation(data[position + 8 : end - 4])
        elif kind in (b"PLTE", b"tRNS") and not pixels:
            pieces.append(slice(position, end))
            transparent |= kind == b"tRNS"
        elif kind == b"acTL":
            animated |= data[position + 8 : end - 4][:4] > b"\0\0\0\1"
        ended = kind == b"IEND"
        position = end
    if pixels:  # where there are none, the decoder says so: the size may already be too large
        _check_inflation(data, pixels[0], pixels[1], width * height, depth, colour)
        pieces.append(slice(*pixels))
    if not ended:
        notices = (*notices, "the file ends early, behind its pixels")
    return Header(
        "png",
        width,
        height,
        orientation,
        max(depth, 8),
        transparent=transparent,
        animated=animated,
        pieces=(*pieces, END),
        notices=notices,
    )


def _check_inflation(data: bytes, start: int, end: int, pixels: int, depth: int, colour: int) -> None:
    whole = memoryview(data)[start:end]

    def parts() -> Iterator[memoryview]:
        position = 0
        while position < len(whole):
            (length,) = struct.unpack_from(">I", whole, position)
            yield whole[position + 8 : position + 8 + length]
            position += _AROUND + length

    check_inflation(parts(), whole, pixels * _SAMPLES.get(colour, 4) * max(depth, 8) // 8)
