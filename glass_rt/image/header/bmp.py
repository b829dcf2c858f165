"""BMP: the OS/2 core header, or Windows' of 36 bytes and more."""

from __future__ import annotations

import struct

from glass_rt.errors import ImageCorrupt
from glass_rt.image.header.header import Header

_CORE = 12  # bytes of OS/2's header
_UNCOMPRESSED = (0, 3)  # BI_RGB, BI_BITFIELDS


def read_bmp(data: bytes) -> Header:
    """Size by the information header, and that the rows of an uncompressed one are there."""
    offset, kind = struct.unpack_from("<II", data, 10)
    compression = 0
    if kind == _CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
        (compression,) = struct.unpack_from("<I", data, 30)
    rows = abs(height)  # a negative height means top-down rows
    if width > 0 and compression in _UNCOMPRESSED:
        pitch = (width * bits + 31) // 32 * 4
        if offset + pitch * (rows - 1) > len(data):
            raise ImageCorrupt(f"the BMP of {len(data)} bytes ends before its {rows} rows of {pitch} bytes")
    return Header("bmp", width, rows)
