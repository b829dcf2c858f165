"""What a file says of itself before a pixel is decoded: the facts in which a label can hide."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glass_rt.image.encoded import read_file
from glass_rt.image.header import Header, read_header
from glass_train.delivery.jpeg import Tables

_NO_PAYLOAD = (0x00, 0x01, *range(0xD0, 0xD9))
_FRAMES = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
_DQT, _SOS, _COMMENT, _APP0, _APP15 = 0xDB, 0xDA, 0xFE, 0xE0, 0xEF
_PNG_METADATA = (b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt")
_HEAD = 1 << 16  # bytes of other containers in which their metadata is named

# Row by row from the zigzag order of the file: ITU-T T.81, figure 5.
_ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8)))


@dataclass(frozen=True)
class Container:
    """The facts of one file.

    `width` and `height`: of the decoded pixels. `coded_bytes`: those of the file without its metadata. `tables` and
    `subsampling`: of a colour JPEG, None of anything else. `quality`: of a JPEG, 1..100 on
    libjpeg's scale.
    """

    format: str
    width: int
    height: int
    file_bytes: int
    coded_bytes: int
    tables: Tables | None = None
    subsampling: str | None = None
    exif: bool = False
    icc: bool = False
    progressive: bool = False
    quality: int | None = None

    @property
    def bytes_per_pixel(self) -> float:
        """Bytes of the file for each pixel."""
        return self.file_bytes / (self.width * self.height)


def read_container(path: str | Path) -> Container:
    """The facts of a file. Raises ImageError: it cannot be read, or is no image."""
    return container_of(read_file(path))


def container_of(data: bytes) -> Container:
    """The facts of a file's bytes. Raises ImageError where they are no image."""
    header = read_header(data)
    if header.format == "jpeg":
        return _of_jpeg(data, header)
    exif, icc, metadata_bytes = _of_png(data) if header.format == "png" else _of_other(data)
    width, height = header.decoded_size
    return Container(header.format, width, height, len(data), len(data) - metadata_bytes, exif=exif, icc=icc)


def _of_jpeg(data: bytes, header: Header) -> Container:
    exif = icc = False
    metadata_bytes = 0
    tables: dict[int, tuple[int, ...]] = {}
    components: list[tuple[int, int]] = []  # sampling factors, and the number of the table
    for marker, payload in _segments(data):
        if _APP0 <= marker <= _APP15 or marker == _COMMENT:
            metadata_bytes += len(payload) + 4
            exif |= marker == 0xE1 and payload.startswith(b"Exif\0\0")
            icc |= marker == 0xE2 and payload.startswith(b"ICC_PROFILE\0")
        elif marker == _DQT:
            tables |= _tables(payload)
        elif marker in _FRAMES and len(payload) > 5 and len(payload) >= 6 + 3 * payload[5]:
            components = [(payload[i + 1], payload[i + 2]) for i in range(6, 6 + 3 * payload[5], 3)]
    colour = len(components) == 3 and all(number in tables for _, number in components)
    return Container(
        "jpeg",
        header.width,
        header.height,
        len(data),
        len(data) - metadata_bytes,
        (tables[components[0][1]], tables[components[1][1]]) if colour else None,
        _subsampling([factors for factors, _ in components]),
        exif,
        icc,
        header.progressive,
        header.jpeg_quality,
    )


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and payloads up to the first scan; `read_header` has walked them before and found an end."""
    position = 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        if marker == _SOS:
            return
        if marker == 0xFF:  # fill
            position += 1
        elif marker in _NO_PAYLOAD:
            position += 2
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            yield marker, data[position + 4 : position + 2 + length]
            position += 2 + max(length, 2)


def _tables(payload: bytes) -> dict[int, tuple[int, ...]]:
    """Tables of a DQT segment by number, row by row; steps of 16 bits are cut off at 255, as in baseline JPEGs."""
    tables, position = {}, 0
    while position < len(payload):
        wide, number = payload[position] >> 4, payload[position] & 15
        size = 128 if wide else 64
        steps = payload[position + 1 : position + 1 + size]
        if len(steps) < size:
            break
        zigzag = struct.unpack(">64H", steps) if wide else tuple(steps)
        rows = [0] * 64
        for place, step in zip(_ZIGZAG, zigzag, strict=True):
            rows[place] = min(max(step, 1), 255)
        tables[number] = tuple(rows)
        position += 1 + size
    return tables


def _subsampling(factors: list[int]) -> str | None:
    """`4:2:0` and the like; the sampling factors themselves where they have no such name."""
    if len(factors) != 3:
        return None
    luma, *chroma = ((factor >> 4, factor & 15) for factor in factors)
    if chroma != [(1, 1), (1, 1)]:
        return " ".join(f"{horizontal}x{vertical}" for horizontal, vertical in (luma, *chroma))
    names = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
    return names.get(luma, f"{luma[0]}x{luma[1]}")


def _of_png(data: bytes) -> tuple[bool, bool, int]:
    """Whether there are EXIF and an ICC profile, and the bytes of metadata."""
    found, metadata_bytes, position = set(), 0, 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind in _PNG_METADATA:
            found.add(kind)
            metadata_bytes += length + 12
        position += length + 12
    return b"eXIf" in found, b"iCCP" in found, metadata_bytes


def _of_other(data: bytes) -> tuple[bool, bool, int]:
    """The same of WebP, AVIF, HEIC and TIFF, by the names of their parts; metadata is not counted apart there."""
    if data[:4] == b"RIFF":
        flags = data[20] if data[12:16] == b"VP8X" and len(data) > 20 else 0
        return bool(flags & 0x08), bool(flags & 0x20), 0
    head = data[:_HEAD]
    return b"Exif" in head, b"prof" in head or b"ICC_PROFILE" in head, 0
