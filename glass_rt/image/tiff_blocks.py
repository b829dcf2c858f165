"""A TIFF written anew for OpenCV, where its libtiff lacks the codec or OpenCV refuses the number of samples.

Strips and tiles are unpacked one by one, in bounds; what comes out is uncompressed, with the same tags.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import ImageCorrupt, ImageError, ImageFormatError, MissingDependency
from glass_rt.image import exif
from glass_rt.image.exif import Directory
from glass_rt.image.header import tiff

NONE, LZW, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD = 1, 5, 8, 32773, 32946, 34925, 50000
_PREDICTING = (LZW, DEFLATE, OLD_DEFLATE, LZMA, ZSTD)  # libtiff passes over the tag of other codecs
_LZMA_BYTES = 128 << 20  # its dictionary; libtiff writes with at most 64 MB
_PREDICTOR, _COLOUR_MAP, _FILL_ORDER = 317, 320, 266
_PALETTE, _CMYK = 3, 5
_KEPT = (tiff.WIDTH, tiff.LENGTH, tiff.PHOTOMETRIC, exif.ORIENTATION, tiff.PLANES, tiff.ROWS_PER_STRIP,
         tiff.TILE_WIDTH, tiff.TILE_LENGTH, _COLOUR_MAP, _FILL_ORDER)  # fmt: skip
_MOST_VALUES = 3 << 16  # of the tags kept: a palette of 16 bits
_CODES = {3: "H", 4: "I"}
Tags: TypeAlias = dict[int, tuple[int, tuple[int, ...]]]  # type and values, by tag
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4}  # samples of a pixel that are colours, by photometric interpretation


def uncompressed(data: bytes) -> bytes:
    """The file with its pixels unpacked, and no samples beyond its colours and alpha.

    Raises ImageFormatError where it needs what is not here, ImageCorrupt where a strip cannot be unpacked, and
    MissingDependency.
    """
    try:
        directory = exif.first_directory(data)
        return _written(directory, _layout(directory))
    except ImageError:
        raise
    except (
        exif.DirectoryUnreadable,
        struct.error,
        cv2.error,
        ValueError,
        lzma.LZMAError,
        zlib.error,
        EOFError,
    ) as error:
        raise ImageCorrupt(f"the TIFF cannot be unpacked: {error}") from error


@dataclass(frozen=True)
class _Layout:
    width: int
    height: int
    bits: int
    samples: int
    kept: int
    planar: bool
    columns: int
    rows: int
    tiled: bool
    predicted: bool
    photometric: int

    @property
    def written_bits(self) -> int:
        """Samples below 8 bits are brought to 8, and so are CMYK's of 16, of which Pillow takes the higher byte."""
        return 8 if self.photometric == _CMYK else max(self.bits, 8)

    @property
    def blocks(self) -> int:
        """Of one plane."""
        return -(-self.width // self.columns) * -(-self.height // self.rows)


def _layout(directory: Directory) -> _Layout:
    width, height = directory.first(tiff.WIDTH, 0), directory.first(tiff.LENGTH, 0)
    samples, photometric = directory.first(tiff.SAMPLES, 1), directory.first(tiff.PHOTOMETRIC, 0)
    bits = directory.first(tiff.BITS, 1)
    predicts = directory.first(tiff.COMPRESSION, NONE) in _PREDICTING
    predictor = directory.first(_PREDICTOR, 1) if predicts else 1
    plain = bits in (1, 2, 4) and samples == 1 and predictor == 1
    if photometric not in _COLOURS or not (plain or (bits in (8, 16) and predictor in (1, 2))):
        raise ImageFormatError("a TIFF of this kind is not supported; save it with Deflate or LZW")
    kept = min(samples, _COLOURS[photometric] + (directory.first(tiff.EXTRA_SAMPLES, 0) in (1, 2)))
    tiled = directory.find(tiff.TILE_WIDTH) is not None
    columns = directory.first(tiff.TILE_WIDTH, 0) if tiled else width
    rows = directory.first(tiff.TILE_LENGTH, 0) if tiled else directory.first(tiff.ROWS_PER_STRIP, height)
    rows = rows if tiled else min(rows or height, height)
    planar = directory.first(tiff.PLANES, 1) == 2
    return _Layout(width, height, bits, samples, kept, planar, columns, rows, tiled, predictor == 2, photometric)


def _written(directory: Directory, layout: _Layout) -> bytes:
    blocks = list(_blocks(directory, layout))
    tags: Tags = {
        tiff.BITS: (3, (layout.written_bits,) * layout.kept),
        tiff.COMPRESSION: (3, (NONE,)),
        tiff.SAMPLES: (3, (layout.kept,)),
        tiff.TILE_COUNTS if layout.tiled else tiff.COUNTS: (4, tuple(map(len, blocks))),
    }
    for tag in _KEPT:
        entry = directory.find(tag)
        if entry is not None and (values := directory.values(entry, _MOST_VALUES)):
            tags[tag] = (4 if max(values) > 0xFFFF else 3, values)
    if layout.bits < 8:
        tags[_FILL_ORDER] = (3, (1,))
        if layout.photometric == _PALETTE:
            tags[_COLOUR_MAP] = (3, _padded_palette(tags[_COLOUR_MAP][1], layout.bits))
    if layout.kept in (2, 4) and directory.first(tiff.PHOTOMETRIC, 0) != 5:
        tags[tiff.EXTRA_SAMPLES] = (3, (1,))  # associated, which keeps libtiff from multiplying
    return _file(directory.order, tags, tiff.TILE_OFFSETS if layout.tiled else tiff.OFFSETS, blocks)


def _blocks(directory: Directory, layout: _Layout) -> Iterator[bytes]:
    """The strips or tiles one by one, unpacked, without the samples that are not kept."""
    planes = layout.samples if layout.planar else 1
    offsets, counts = (
        directory.values(entry, layout.blocks * planes) if (entry := directory.find(tag)) else ()
        for tag in ((tiff.TILE_OFFSETS, tiff.TILE_COUNTS) if layout.tiled else (tiff.OFFSETS, tiff.COUNTS))
    )
    if min(len(offsets), len(counts)) < layout.blocks * planes:
        raise ImageCorrupt("the TIFF lacks strips or tiles")
    fill_order = directory.first(_FILL_ORDER, 1)
    unpack = _unpacker(directory.first(tiff.COMPRESSION, NONE), fill_order)
    samples = 1 if layout.planar else layout.samples
    kind: Any = np.dtype(np.uint8 if layout.bits == 8 else directory.order + "u2")
    for index in range(layout.blocks * (layout.kept if layout.planar else 1)):
        number = index % layout.blocks
        rows = layout.rows if layout.tiled else min(layout.rows, layout.height - number * layout.rows)
        row_bytes = -(-layout.columns * samples * layout.bits // 8)
        size = rows * row_bytes
        packed = memoryview(directory.tiff)[offsets[index] : offsets[index] + counts[index]]
        unpacked = unpack(packed, rows, row_bytes)
        if len(unpacked) < size:
            raise ImageCorrupt("a strip or tile of the TIFF ends early")
        if layout.bits < 8:
            yield _in_bytes(unpacked[:size], rows, layout, reversed_bits=fill_order == 2)
            continue
        pixels: NDArray[Any] = np.frombuffer(unpacked, kind, size // kind.itemsize)
        pixels = pixels.reshape(rows, layout.columns, samples)
        if layout.predicted:
            pixels = np.cumsum(pixels, axis=1, dtype=kind.newbyteorder("=")).astype(kind)
        kept = pixels[:, :, : layout.kept]
        yield (kept >> 8).astype(np.uint8).tobytes() if layout.bits > layout.written_bits else kept.tobytes()


def _in_bytes(packed: bytes, rows: int, layout: _Layout, *, reversed_bits: bool) -> bytes:
    """Samples of 1, 2 or 4 bits as bytes: places in a palette as they are, grey from 0 to 255."""
    rowed = np.frombuffer(packed, np.uint8).reshape(rows, -1, 1)
    bits = np.unpackbits(rowed, axis=2, bitorder="little" if reversed_bits else "big")
    weights = 1 << np.arange(layout.bits, dtype=np.uint8)[::-1]
    values = bits.reshape(rows, -1, layout.bits)[:, : layout.columns] @ weights
    whole = 1 if layout.photometric == _PALETTE else 255 // ((1 << layout.bits) - 1)
    in_bytes: NDArray[np.uint8] = (values * np.uint8(whole)).astype(np.uint8)
    return in_bytes.tobytes()


def _padded_palette(colours: tuple[int, ...], bits: int) -> tuple[int, ...]:
    """A palette of 8 bits, of one of fewer: reds, greens and blues, one after the other."""
    length = 1 << bits
    if len(colours) != 3 * length:
        raise ImageCorrupt(f"the TIFF's palette has {len(colours)} values; expected {3 * length}")
    padding = (0,) * (256 - length)
    return tuple(
        value for start in range(0, 3 * length, length) for value in (*colours[start : start + length], *padding)
    )


_Unpack: TypeAlias = Callable[[memoryview, int, int], bytes]


def _unpacker(compression: int, fill_order: int) -> _Unpack:
    """What unpacks one strip or tile to at most so many rows of so many bytes."""
    if compression == NONE:
        return lambda packed, rows, row_bytes: bytes(packed[: rows * row_bytes])
    if compression in (DEFLATE, OLD_DEFLATE):
        return lambda packed, rows, row_bytes: zlib.decompressobj().decompress(packed, rows * row_bytes)
    if compression in (LZW, PACKBITS):
        return lambda packed, rows, row_bytes: _by_libtiff(packed, rows, row_bytes, compression, fill_order)
    if compression == LZMA:
        return lambda packed, rows, row_bytes: lzma.LZMADecompressor(lzma.FORMAT_XZ, _LZMA_BYTES).decompress(
            packed, rows * row_bytes
        )
    if compression == ZSTD:
        return _zstd()
    raise ImageFormatError(f"a TIFF of compression {compression} is not supported; save it with Deflate")


def _by_libtiff(packed: memoryview, rows: int, row_bytes: int, compression: int, fill_order: int) -> bytes:
    """A strip unpacked by OpenCV's libtiff, which takes it for a picture of one grey byte a pixel."""
    strip = _grey_strip(packed, rows, row_bytes, 8, compression, fill_order)
    grey = cv2.imdecode(np.frombuffer(strip, np.uint8), cv2.IMREAD_UNCHANGED)
    if grey is None or grey.shape != (rows, row_bytes):
        raise ImageCorrupt("a strip or tile of the TIFF cannot be unpacked")
    return grey.tobytes()


def strip_of_words(packed: memoryview, rows: int, words: int, compression: int, fill_order: int) -> bytes:
    """A strip as a TIFF of its own, of grey pixels of 16 bits, which OpenCV refuses where it is damaged."""
    return _grey_strip(packed, rows, words, 16, compression, fill_order)


def _grey_strip(packed: memoryview, rows: int, columns: int, bits: int, compression: int, fill_order: int) -> bytes:
    tags: Tags = {
        tiff.WIDTH: (4, (columns,)),
        tiff.LENGTH: (4, (rows,)),
        tiff.BITS: (3, (bits,)),
        tiff.COMPRESSION: (3, (compression,)),
        tiff.PHOTOMETRIC: (3, (1,)),
        _FILL_ORDER: (3, (fill_order,)),
        tiff.SAMPLES: (3, (1,)),
        tiff.ROWS_PER_STRIP: (4, (rows,)),
        tiff.COUNTS: (4, (len(packed),)),
    }
    return _file("<", tags, tiff.OFFSETS, [packed])


def _zstd() -> _Unpack:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14 on
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise MissingDependency("backports.zstd", "tiff", "reading TIFFs of ZSTD before Python 3.14") from None

    def unpack(packed: memoryview, rows: int, row_bytes: int) -> bytes:
        options = {zstd.DecompressionParameter.window_log_max: 27}  # 128 MB
        try:
            unpacked: bytes = zstd.ZstdDecompressor(options=options).decompress(packed, rows * row_bytes)
        except zstd.ZstdError as error:
            raise ImageCorrupt(f"the TIFF cannot be unpacked: {error}") from None
        return unpacked

    return unpack


def _file(order: str, tags: Tags, offsets_tag: int, blocks: Sequence[bytes | memoryview]) -> bytes:
    """A classic TIFF of these tags (type, values) and, one after the other, the blocks."""
    tags = {**tags, offsets_tag: (4, (0,) * len(blocks))}
    table = 8 + 2 + 12 * len(tags) + 4
    apart = sum(size for kind, values in tags.values() if (size := len(values) * (2 if kind == 3 else 4)) > 4)
    places = [table + apart]
    for block in blocks[:-1]:
        places.append(places[-1] + len(block))
    tags[offsets_tag] = (4, tuple(places))
    entries, values_apart = [], b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(order + "I", table + len(values_apart))
        values_apart += packed if len(packed) > 4 else b""
        entries.append(struct.pack(order + "HHI", tag, kind, len(values)) + place)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(order + "IH", 8, len(tags)) + b"".join(entries) + bytes(4)
    return b"".join((head, values_apart, *blocks))
