"""What an image file says of itself before a pixel is decoded: format, size, orientation, depth.

Formats are told by content, never by file name. The size is needed first: decoding a 2.6 MB PNG of 30000 x 30000
costs half a minute and gigabytes, reading its header a microsecond.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from glass_rt.errors import ImageCorrupt, ImageFormatError
from glass_rt.image import exif

FORMATS = ("jpeg", "png", "webp", "avif", "tiff", "bmp", "gif", "heic")
# Of a progressive JPEG; cameras and editors write about ten. A scan of a few hundred bytes goes over all pixels: a file
# of one megabyte could take minutes to decode.
MOST_SCANS = 500


@dataclass(frozen=True)
class Header:
    """Facts from an image's header. Width and height are in stored pixels, before any EXIF orientation."""

    format: str  # one of FORMATS
    width: int
    height: int
    orientation: int = 1  # EXIF 1..8
    depth: int = 8  # bits per sample
    cmyk: bool = False
    progressive: bool = False
    transparent: bool = False
    animated: bool = False


def read_header(data: bytes) -> Header:
    """The header of an image file.

    Raises ImageFormatError where the bytes are no supported image and ImageCorrupt where they start like one but
    end or contradict themselves before their size is known.
    """
    if not data:
        raise ImageFormatError("the file is empty")
    parse = _parser_for(data)
    if parse is None:
        raise ImageFormatError(f"not an image that can be read ({_looks_like(data)}); supported: {', '.join(FORMATS)}")
    try:
        header = parse(data)
    except (struct.error, IndexError):
        raise ImageCorrupt("the file ends inside its header") from None
    if header.width <= 0 or header.height <= 0:
        raise ImageCorrupt(f"the header says {header.width} x {header.height} pixels")
    return header


def looks_like_image(start: bytes) -> bool:
    """Whether a file that begins with `start` (64 bytes are enough) is of a supported format."""
    return _parser_for(start) is not None


def _parser_for(data: bytes) -> Callable[[bytes], Header] | None:
    if data[:3] == b"\xff\xd8\xff":
        return _jpeg
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _gif
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff
    if data[:2] == b"BM":
        return _bmp
    if data[4:8] == b"ftyp" and _iso_brand(data) is not None:
        return _iso_media
    return None


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    for mark, name in (
        (b"<svg", "SVG"),
        (b"<?xml", "XML"),
        (b"<!doctype html", "HTML"),
        (b"<html", "HTML"),
        (b"%pdf", "PDF"),
        (b"pk\x03\x04", "a zip archive"),
        (b"\0\0\0\x0cjp", "JPEG 2000"),
    ):
        if start.startswith(mark):
            return f"it looks like {name}"
    return f"it starts with {data[:8].hex(' ')}"


def _jpeg(data: bytes) -> Header:
    """Walks the marker segments up to the first frame header (ITU-T T.81, B.1.1 and B.2.2)."""
    orientation = 1
    for marker, start, end in _jpeg_segments(data):
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            orientation = exif.orientation(data[start:end])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # SOFn; not DHT, JPG, DAC
            depth, height, width, components = struct.unpack_from(">BHHB", data, start)
            progressive = marker in (0xC2, 0xC6, 0xCA, 0xCE)
            if progressive and (scans := data.count(b"\xff\xda", end)) > MOST_SCANS:
                raise ImageCorrupt(f"the JPEG has {scans} scans; at most {MOST_SCANS} are decoded")
            return Header("jpeg", width, height, orientation, depth, components == 4, progressive)
    raise ImageCorrupt("the JPEG has no frame header")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, first byte of its payload, one past the last) up to the start of scan or the end of image."""
    position = 2
    while True:
        if data[position] != 0xFF:
            position = data.find(b"\xff", position)
            if position < 0:
                return
        while data[position] == 0xFF:  # fill bytes
            position += 1
        marker = data[position]
        position += 1
        if marker in (0xD9, 0xDA):
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8 or marker == 0x00:  # no payload
            continue
        (length,) = struct.unpack_from(">H", data, position)
        yield marker, position + 2, position + length
        position += max(length, 2)


def _png(data: bytes) -> Header:
    """IHDR, then the chunks up to the pixels (PNG 3rd edition, 5.3 and 11.2)."""
    if data[12:16] != b"IHDR":
        raise ImageCorrupt("the PNG does not start with an IHDR chunk")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    orientation, transparent, animated = 1, colour in (4, 6), False
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            break
        if kind == b"eXIf":
            orientation = exif.orientation(data[position + 8 : position + 8 + length])
        transparent |= kind == b"tRNS"
        animated |= kind == b"acTL"
        position += 12 + length
    return Header("png", width, height, orientation, max(depth, 8), transparent=transparent, animated=animated)


def _webp(data: bytes) -> Header:
    """RFC 9649, section 2: VP8X, VP8L or VP8 comes first."""
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        return Header("webp", width, height, transparent=bool(bits >> 28 & 1))
    if kind != b"VP8X":
        raise ImageCorrupt(f"the WebP starts with an unknown chunk {kind!r}")
    flags = data[20]
    width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    orientation = 1
    if flags & 0x08:
        position = 12
        while position + 8 <= len(data):
            chunk, length = struct.unpack_from("<4sI", data, position)
            if chunk == b"EXIF":
                orientation = exif.orientation(data[position + 8 : position + 8 + length])
            position += 8 + length + (length & 1)
    return Header("webp", width, height, orientation, transparent=bool(flags & 0x10), animated=bool(flags & 0x02))


def _gif(data: bytes) -> Header:
    """GIF89a, sections 18 to 23; transparency from the first graphic control extension."""
    width, height = struct.unpack_from("<HH", data, 6)
    control = data.find(b"\x21\xf9\x04", 13, 13 + 3 * 256 + 1024)
    transparent = control >= 0 and bool(data[control + 3] & 1)
    return Header("gif", width, height, transparent=transparent, animated=_gif_frames(data, most=2) > 1)


def _gif_frames(data: bytes, most: int) -> int:
    """Number of image descriptors, counted up to `most`; a file that ends early counts as far as it goes."""

    def table(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    frames, position = 0, 13 + table(data[10])
    while position + 10 < len(data) and frames < most:
        if data[position] == 0x2C:
            frames += 1
            position += 10 + table(data[position + 9]) + 1  # the byte after the colours is the LZW code size
        elif data[position] == 0x21:
            position += 2
        else:
            break
        while position < len(data) and data[position]:  # sub-blocks, up to an empty one
            position += 1 + data[position]
        position += 1
    return frames


def _bmp(data: bytes) -> Header:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2 core header
        width, height = struct.unpack_from("<HH", data, 18)
        return Header("bmp", width, height)
    width, height = struct.unpack_from("<ii", data, 18)
    return Header("bmp", width, abs(height))  # a negative height means top-down rows


def _tiff(data: bytes) -> Header:
    tags = exif.first_ifd(data)
    if 256 not in tags or 257 not in tags:
        raise ImageCorrupt("the TIFF's first directory gives no size")
    orientation = tags.get(exif.ORIENTATION, 1)
    return Header("tiff", tags[256], tags[257], orientation, tags.get(258, 1), cmyk=tags.get(262) == 5)


def _iso_brand(data: bytes) -> str | None:
    (length,) = struct.unpack_from(">I", data, 0)
    brands = data[8 : min(length, 256)]
    if b"avif" in brands or b"avis" in brands:
        return "avif"
    return "heic" if any(brand in brands for brand in (b"heic", b"heix", b"hevc", b"mif1")) else None


def _iso_media(data: bytes) -> Header:
    """Item properties of an AVIF or HEIC file (ISO/IEC 23008-12): the largest `ispe`, and `irot` as orientation."""
    kind = _iso_brand(data) or "heic"
    at = data.find(b"ispe")
    width = height = 0
    while at >= 0:
        found = struct.unpack_from(">II", data, at + 8)
        if found[0] * found[1] > width * height:
            width, height = found
        at = data.find(b"ispe", at + 4, 1 << 20)
    if not width:
        raise ImageCorrupt(f"the {kind.upper()} file gives no size")
    turn = data.find(b"irot", 0, 1 << 20)
    quarter_turns = data[turn + 4] & 3 if turn >= 0 else 0  # anticlockwise
    auxiliary = b"auxid:1" in data[: 1 << 20] or b"auxl" in data[: 1 << 20]
    return Header(
        kind,
        width,
        height,
        {0: 1, 1: 8, 2: 3, 3: 6}[quarter_turns],
        transparent=auxiliary,
        animated=b"avis" in data[8:64] or b"hevc" in data[8:64],
    )
