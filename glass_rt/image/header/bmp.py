"""BMP: the OS/2 core header, or Windows' of 36 bytes and more."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from glass_rt.errors import ImageCorrupt, ImageFormatError
from glass_rt.image.header.header import Header

_CORE = 12  # bytes of OS/2's header
_WITH_ALPHA = 56  # bytes of the first header that has a mask of alpha
_MASKS = 54  # where masks begin, in the header or behind one of 40 bytes
RAW, MASKED = 0, 3  # BI_RGB, BI_BITFIELDS
_UNCOMPRESSED = (RAW, MASKED)
_BYTES = tuple(0xFF << shift for shift in (0, 8, 16, 24))
_555 = (0x7C00, 0x3E0, 0x1F)
# Bits of red, green and blue in a pixel of so many bits. Of others Pillow makes no picture either.
_SMALL_MASKS = {16: (_555, (0xF800, 0x7E0, 0x1F)), 24: ((0xFF0000, 0xFF00, 0xFF),)}


@dataclass(frozen=True)
class BmpLayout:
    """Where the pixels lie: `rows` of `pitch` bytes from `offset` on, from the lowest up unless `top_down`.

    `masks`: the bits of red, green and blue in a pixel of `bits`, where they are to be cut out of it. `alpha`: other
    bits of it are its alpha.
    """

    offset: int
    width: int
    rows: int
    top_down: bool
    bits: int
    compression: int
    masks: tuple[int, ...] = ()
    alpha: bool = False

    @property
    def pitch(self) -> int:
        """Bytes of a row."""
        return (self.width * self.bits + 31) // 32 * 4


def read_bmp(data: bytes) -> Header:
    """Size by the information header, and that the rows of an uncompressed one are there.

    Raises ImageFormatError where its colours lie in a way that is not read.
    """
    layout = bmp_layout(data)
    if layout.width > 0 and layout.compression in _UNCOMPRESSED:
        # Of a row that is cut out here, every pixel is needed.
        last = -(-layout.width * layout.bits // 8) if layout.masks else 0
        if layout.offset + layout.pitch * (layout.rows - 1) + last > len(data):
            raise ImageCorrupt(
                f"the BMP of {len(data)} bytes ends before its {layout.rows} rows of {layout.pitch} bytes"
            )
    return Header("bmp", layout.width, layout.rows, transparent=layout.alpha, rewritten=bool(layout.masks))


def bmp_layout(data: bytes) -> BmpLayout:
    """What the headers say. Raises ImageFormatError for masks that are not read, and struct.error."""
    offset, kind = struct.unpack_from("<II", data, 10)
    if kind == _CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        return BmpLayout(offset, width, height, False, bits, RAW, _555 if bits == 16 else ())
    width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    (compression,) = struct.unpack_from("<I", data, 30)
    masks, alpha = _masks(data, kind, bits, compression)
    return BmpLayout(offset, width, abs(height), height < 0, bits, compression, masks, alpha)


def _masks(data: bytes, kind: int, bits: int, compression: int) -> tuple[tuple[int, ...], bool]:
    """Masks of red, green and blue, and whether there is one of alpha too."""
    if compression != MASKED:
        return (_555 if compression == RAW and bits == 16 else ()), False
    masks = struct.unpack_from("<III", data, _MASKS)
    (alpha,) = struct.unpack_from("<I", data, _MASKS + 12) if kind >= _WITH_ALPHA else (0,)
    if bits == 32 and not any((*masks, alpha)):  # Windows takes these
        masks = (0xFF0000, 0xFF00, 0xFF)
    of_bytes = bits == 32 and len({*masks, alpha}) == 4 and {*masks} <= {*_BYTES} and alpha in (0, *_BYTES)
    if not of_bytes and masks not in _SMALL_MASKS.get(bits, ()):
        found = ", ".join(f"{mask:x}" for mask in masks)
        raise ImageFormatError(
            f"a BMP of {bits} bits per pixel with the colour masks {found} is not supported; save it with 24 bits"
        )
    return masks, bool(alpha) and bits == 32
