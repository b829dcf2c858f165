"""Sizes of AV1 frames by the sequence headers among their bytes (AV1 specification, 5.3 to 5.5)."""

from __future__ import annotations

from collections.abc import Iterator

from glass_rt.errors import ImageCorrupt
from glass_rt.image.header.bits import Bits

MOST_UNITS = 10_000  # of one frame: temporal delimiter, headers, and its tiles
MOST_FRAMES = 4  # of one picture: layers. More are decoded, and never shown.
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_HEADER_BYTES = 64  # a sequence header with all its operating points is shorter


def largest_frame(data: bytes | memoryview) -> tuple[int, int, int]:
    """Width and height that no frame among these bytes exceeds, and how many frames there are.

    0 x 0 where no sequence header says it.
    """
    width = height = frames = 0
    for kind, start, end in _units(data):
        if kind == _SEQUENCE_HEADER:
            size = _sequence_size(Bits(data[start : min(end, start + 4 * _HEADER_BYTES)]))
            width, height = max(width, size[0]), max(height, size[1])
        frames += kind in (_FRAME_HEADER, _FRAME)
    if frames > MOST_FRAMES:
        raise ImageCorrupt(f"one picture has {frames} AV1 frames; at most {MOST_FRAMES} are decoded")
    return width, height, frames


def grey_range(data: bytes | memoryview) -> str | None:
    """`full` or `limited` (16 to 235, of 8 bits) where the frames among these bytes have brightness alone; else None.

    None too where the sequence header is not there or ends early (5.5.2).
    """
    for kind, start, end in _units(data):
        if kind == _SEQUENCE_HEADER:
            try:
                return _grey_range(Bits(data[start : min(end, start + 4 * _HEADER_BYTES)]))
            except IndexError:
                return None
    return None


def _units(data: bytes | memoryview) -> Iterator[tuple[int, int, int]]:
    """(type, first byte of the payload, one past the last) of each open bitstream unit."""
    position = 0
    for _ in range(MOST_UNITS):
        if position >= len(data):
            return
        head = data[position]
        position += 2 if head & 4 else 1  # an extension follows
        size = len(data) - position
        if head & 2:
            size, position = _leb128(data, position)
        if position + size > len(data):
            raise ImageCorrupt("the AV1 data ends inside a unit")
        yield head >> 3 & 15, position, position + size
        position += size
    raise ImageCorrupt(f"one picture has more than {MOST_UNITS} AV1 units")


def _leb128(data: bytes | memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, position + index + 1
    raise IndexError("no such length")


def _sequence_size(bits: Bits) -> tuple[int, int]:
    return _sequence_start(bits)[2:]


def _sequence_start(bits: Bits) -> tuple[int, int, int, int]:
    """Profile, whether the header is reduced, `max_frame_width` and `max_frame_height` (5.5.1)."""
    profile = bits.take(3)
    bits.take(1)  # still picture
    reduced = bits.take(1)
    if reduced:
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return profile, reduced, bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _grey_range(bits: Bits) -> str | None:
    profile, reduced, *_ = _sequence_start(bits)
    if not reduced and bits.take(1):  # frame numbers
        bits.take(7)
    bits.take(3)  # superblocks of 128, filter_intra, intra_edge_filter
    if not reduced:
        _skip_tools(bits)
    bits.take(3)  # superres, cdef, restoration
    if bits.take(1) and profile == 2:  # more than 8 bits
        bits.take(1)
    grey = profile != 1 and bits.take(1) == 1
    if not grey:
        return None
    if bits.take(1):  # primaries, transfer, matrix
        bits.take(24)
    return "full" if bits.take(1) else "limited"


def _skip_tools(bits: Bits) -> None:
    """The tools that a still picture's reduced header leaves out."""
    bits.take(4)  # interintra, masked, warped, dual filter
    order_hint = bits.take(1)
    if order_hint:
        bits.take(2)
    screen_content = 2 if bits.take(1) else bits.take(1)
    if screen_content and not bits.take(1):
        bits.take(1)  # seq_force_integer_mv
    if order_hint:
        bits.take(3)


def _skip_operating_points(bits: Bits) -> None:
    delay_bits = 0  # of the decoder model, where there is one
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):
            bits.take_exp_golomb()
        if bits.take(1):
            delay_bits = bits.take(5) + 1
            bits.take(42)
    display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if display_delay and bits.take(1):
            bits.take(4)
