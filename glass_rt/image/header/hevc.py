"""Sizes of HEVC pictures by their sequence parameter sets (ITU-T H.265, 7.3.2.2), in `hvcC` and among the data."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from glass_rt.errors import ImageCorrupt
from glass_rt.image.header.bits import Bits

MOST_UNITS = 10_000  # of one picture: its slices
MOST_PICTURES = 4  # in the data of one
_SPS = 33
_FIRST_PARAMETER_SET = 32  # smaller types are slices
_SPS_BYTES = 256  # more than come before the size, of which profiles of seven layers are 77


def largest_picture(configuration: bytes, data: bytes | memoryview) -> tuple[int, int, int]:
    """Width and height that no picture exceeds, 0 x 0 where no parameter set says it; and how many pictures there are.

    `configuration`: the payload of `hvcC`; `data`: the item's bytes.
    """
    width = height = pictures = 0
    length_size = (configuration[21] & 3) + 1
    for unit in (*_configured(configuration), *_units(data, length_size)):
        kind = unit[0] >> 1 & 63
        layer = (unit[0] & 1) << 5 | unit[1] >> 3
        if layer:  # another view; libde265 passes over it
            continue
        if kind == _SPS:
            size = _picture_size(unit)
            width, height = max(width, size[0]), max(height, size[1])
        pictures += kind < _FIRST_PARAMETER_SET and bool(unit[2] & 0x80)  # its first slice
    if pictures > MOST_PICTURES:
        raise ImageCorrupt(f"one image has {pictures} HEVC pictures; at most {MOST_PICTURES} are decoded")
    return width, height, pictures


def _configured(configuration: bytes) -> Iterator[bytes]:
    """The units of `hvcC` (ISO/IEC 14496-15, 8.3.3.1)."""
    position, units = 23, 0
    for _ in range(configuration[22]):
        (count,) = struct.unpack_from(">H", configuration, position + 1)
        position += 3
        units += count
        if units > MOST_UNITS:
            raise ImageCorrupt(f"an HEVC configuration has more than {MOST_UNITS} units")
        for _ in range(count):
            (length,) = struct.unpack_from(">H", configuration, position)
            if length < 3 or position + 2 + length > len(configuration):
                raise ImageCorrupt("the HEVC configuration ends inside a unit")
            yield configuration[position + 2 : position + 2 + length]
            position += 2 + length


def _units(data: bytes | memoryview, length_size: int) -> Iterator[bytes]:
    """The beginning of each unit of an item."""
    position = 0
    for _ in range(MOST_UNITS):
        if position >= len(data):
            return
        length = int.from_bytes(data[position : position + length_size], "big")
        position += length_size
        if position + length > len(data):
            raise ImageCorrupt("the HEVC data ends inside a unit")
        if length >= 3:
            yield bytes(data[position : position + min(length, _SPS_BYTES)])
        position += length
    raise ImageCorrupt(f"one image has more than {MOST_UNITS} HEVC units")


def _picture_size(unit: bytes) -> tuple[int, int]:
    bits = Bits(unit[2:_SPS_BYTES].replace(b"\0\0\3", b"\0\0"))  # without emulation prevention
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)  # nesting, profile and level
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.take_exp_golomb()
    if bits.take_exp_golomb() == 3:  # full colour
        bits.take(1)
    return bits.take_exp_golomb(), bits.take_exp_golomb()
