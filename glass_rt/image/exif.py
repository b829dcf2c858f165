"""Orientation from the TIFF structure that EXIF blocks and TIFF files share."""

from __future__ import annotations

import struct
from collections.abc import Iterator

ORIENTATION = 0x0112
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 16: 8}  # bytes of BYTE, ASCII, SHORT, LONG, LONG8
_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def first_ifd(tiff: bytes) -> dict[int, int]:
    """First value of every integer tag in the first directory of a TIFF structure (classic or BigTIFF).

    `tiff` starts at the byte-order mark. Returns {} for anything malformed: the callers treat a missing tag and
    an unreadable one alike. Source: TIFF 6.0, section 2; EXIF 2.32, section 4.6.2.
    """
    try:
        return dict(_integer_tags(tiff))
    except (struct.error, KeyError):
        return {}


def _integer_tags(tiff: bytes) -> Iterator[tuple[int, int]]:
    order = {b"II": "<", b"MM": ">"}[tiff[:2]]
    big = struct.unpack_from(order + "H", tiff, 2)[0] == 43
    (offset,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, offset)
    entry, inline = (20, 8) if big else (12, 4)
    start = offset + (8 if big else 2)
    for position in range(start, start + min(count, 4096) * entry, entry):
        tag, kind = struct.unpack_from(order + "HH", tiff, position)
        if kind not in _CODES:
            continue
        (values,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, position + 4)
        place = position + entry - inline
        if values * _SIZES[kind] > inline:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, place)
        yield tag, struct.unpack_from(order + _CODES[kind], tiff, place)[0]


def orientation(exif: bytes) -> int:
    """EXIF orientation 1..8 of an EXIF block (with or without its `Exif\\0\\0` prefix); 1 where there is none."""
    value = first_ifd(exif.removeprefix(b"Exif\0\0")).get(ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1
