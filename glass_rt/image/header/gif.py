"""GIF: blocks up to the first frame, and whether another follows (GIF89a, sections 18 to 23)."""

from __future__ import annotations

import struct

from glass_rt.errors import ImageCorrupt
from glass_rt.image.header.gif_codes import check_resets, may_reset_often
from glass_rt.image.header.header import Frame, Header

MOST_BLOCKS = 1_000_000  # sub-blocks have at most 255 bytes: 255 MB
MOST_CODE_BYTES = 2  # a pixel: a code of 12 bits is the worst, and one in a hundred starts afresh
SPARE_CODE_BYTES = 1 << 16
_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_CONTROL = 0xF9
_GREYS = bytes(value for grey in range(256) for value in (grey, grey, grey))


def read_gif(data: bytes) -> Header:
    """The screen, grown to the first frame where that is larger, as Pillow grows it.

    The decoder is given that frame alone, as an image of its own without transparency: its colours are wanted as
    they are, and OpenCV reads all frames to the end, lays the first on a background of its choice and refuses files
    without their last byte.
    """
    screen = struct.unpack_from("<HH", data, 6)
    position, colours = _colours(data, 10, 13)
    transparent_index = None
    steps = _Steps(data)
    while data[position] == _EXTENSION:
        if data[position + 1] == _CONTROL and data[position + 2] == 4:
            flags, transparent_index = data[position + 3] & 1, data[position + 6]
            transparent_index = transparent_index if flags else None
        position = steps.past_blocks(position + 2)
    if data[position] != _IMAGE:
        raise ImageCorrupt("the GIF has no frame")
    left, top, width, height, flags = struct.unpack_from("<HHHHB", data, position + 1)
    start, own_colours = _colours(data, position + 9, position + 10)
    end = steps.past_blocks(start + 1)  # the byte before the sub-blocks is the LZW code size
    if end - start > MOST_CODE_BYTES * width * height + SPARE_CODE_BYTES:
        raise ImageCorrupt(f"the GIF has {end - start} bytes of codes for {width} x {height} pixels")
    if may_reset_often(end - start, data[start]):
        check_resets(_joined(data, start + 1), data[start])
    palette = own_colours or colours or _GREYS
    around = 3 * (transparent_index or 0)
    rest = palette[around : around + 3] if around + 3 <= len(palette) else bytes(3)
    size = max(screen[0], left + width), max(screen[1], top + height)
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x87, 0, 0) + palette.ljust(3 * 256, b"\0")
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, flags & 0x40)
    whole = (left, top, width, height) == (0, 0, *size)
    return Header(
        "gif",
        *size,
        transparent=transparent_index is not None,
        animated=_another_frame(data, end, steps),
        frame=None if whole else Frame(left, top, width, height, (rest[0], rest[1], rest[2])),
        pieces=(head, image, slice(start, end), b";"),
        notices=() if _ends(data, end) else ("the file ends early, behind its pixels",),
    )


class _Steps:
    """Goes past sub-blocks, in a bounded number of steps for the whole file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MOST_BLOCKS

    def past_blocks(self, position: int) -> int:
        data = self._data
        try:
            while length := data[position]:
                position += 1 + length
                self._left -= 1
                if self._left < 0:
                    raise ImageCorrupt(f"the GIF has more than {MOST_BLOCKS} blocks")
        except IndexError:
            raise ImageCorrupt("the GIF ends inside its blocks") from None
        return position + 1


def _joined(data: bytes, position: int) -> bytes:
    """The payload of sub-blocks that were walked before."""
    parts = []
    while length := data[position]:
        parts.append(data[position + 1 : position + 1 + length])
        position += 1 + length
    return b"".join(parts)


def _colours(data: bytes, flags_at: int, start: int) -> tuple[int, bytes]:
    """One past the colour table that begins at `start`, and its bytes; none where the flags say so."""
    flags = data[flags_at]
    end = start + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    if end >= len(data):
        raise ImageCorrupt("the file ends inside its header")
    return end, data[start:end]


def _another_frame(data: bytes, position: int, steps: _Steps) -> bool:
    try:
        while data[position] == _EXTENSION:
            position = steps.past_blocks(position + 2)
        return data[position] == _IMAGE
    except (IndexError, ImageCorrupt):
        return False


def _ends(data: bytes, position: int) -> bool:
    """Whether anything follows the first frame: the trailer, or what a longer file has."""
    return position < len(data)
