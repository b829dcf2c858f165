"""TIFF: the first directory, its tags in libtiff's reading, and the strips or tiles that it allocates."""

from __future__ import annotations

import struct

from glass_rt.errors import ImageCorrupt, ImageFormatError
from glass_rt.image import exif
from glass_rt.image.exif import Directory, DirectoryUnreadable
from glass_rt.image.header.header import Header, Piece
from glass_rt.image.tiff_pages import page_notices

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
OFFSETS, SAMPLES, ROWS_PER_STRIP, COUNTS, PLANES = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT = 338, 339
# One value each, of which decoders have different opinions where there are two or an odd type.
_SINGLE = (WIDTH, LENGTH, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS_PER_STRIP, PLANES, TILE_WIDTH, TILE_LENGTH)
_ONCE = (*_SINGLE, BITS, OFFSETS, COUNTS, TILE_OFFSETS, TILE_COUNTS, EXTRA_SAMPLES, exif.ORIENTATION)
_UNSIGNED = (3, 4, 16)  # SHORT, LONG, LONG8
_PALETTE, _CMYK = 3, 5
_CIELAB = (8, 9, 10)  # CIELAB, ICCLAB, ITULAB
_ALL_ROWS = 2**32 - 1
# What one strip or tile may take above the image itself: OpenCV has a buffer of one, libtiff two.
SPARE_PIXELS = 1 << 22
BYTES_PER_BLOCK_PIXEL = 12
MOST_BLOCKS = 300_000  # strips or tiles; libtiff keeps two numbers of each
_ASSOCIATED, _SEPARATE = 1, 2  # alpha that colours were multiplied by, or not
_CCITT_LZW_JPEG_DEFLATE = (2, 3, 4, 5, 6, 7, 8, 32771, 32946)
_PACKBITS, _NEXT, _THUNDERSCAN, _PIXARLOG, _SGILOG = (32773,), (32766,), (32809,), (32909,), (34676, 34677)
_UNPACKED = (34925, 50000)  # LZMA and ZSTD, by ourselves
# What libtiff in OpenCV reads or reports. Of every other codec OpenCV makes a black picture, without a word.
_READ = (1, *_CCITT_LZW_JPEG_DEFLATE, *_PACKBITS, *_NEXT, *_THUNDERSCAN, *_PIXARLOG, *_SGILOG, *_UNPACKED)
_NAMES = {
    34887: "LERC", 50001: "WebP", 34712: "JPEG 2000", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000",
    34892: "lossy JPEG", 34933: "PNG", 34934: "JPEG XR", 22610: "JPEG XR", 50002: "JPEG XL", 52546: "JPEG XL",
    9: "JBIG", 10: "JBIG", 34661: "JBIG",
}  # fmt: skip
_FLOATS = (3, 6)  # of sample formats: real and complex floating-point numbers
_REPACKED = (1, 5, 8, 32773, 32946, *_UNPACKED)  # what `tiff_blocks` unpacks
_OPENCVS_SAMPLES = 4
MOST_SAMPLES = 16
_REWRITTEN_COPIES = 4  # of the samples, while they are unpacked


def read_tiff(data: bytes) -> Header:
    """Size, depth and orientation by the first directory. Raises ImageCorrupt and, for codecs, ImageFormatError."""
    try:
        return _read(data, exif.first_directory(data))
    except DirectoryUnreadable as error:
        raise ImageCorrupt(f"the TIFF's first directory gives no size: {error}") from None


def _read(data: bytes, directory: Directory) -> Header:
    if directory.find(WIDTH) is None or directory.find(LENGTH) is None:
        raise ImageCorrupt("the TIFF's first directory gives no size")
    pages = page_notices(directory)
    _check_tags(directory)
    width, height = directory.first(WIDTH, 0), directory.first(LENGTH, 0)
    samples = directory.first(SAMPLES, 1)
    bits = _bits(directory, samples)
    compression = directory.first(COMPRESSION, 1)
    if compression not in _READ:
        name = _NAMES.get(compression, f"compression {compression}")
        raise ImageFormatError(f"a TIFF of {name} is not supported; save it with Deflate or LZW")
    if directory.first(SAMPLE_FORMAT, 1) in _FLOATS:
        raise ImageFormatError(
            f"a TIFF of {bits}-bit floating-point samples is not supported; convert the image to 8 bits per channel"
        )
    if directory.first(PHOTOMETRIC, 0) == _PALETTE and bits > 8:  # OpenCV makes a picture of the places in it
        raise ImageFormatError(f"a TIFF with a palette of {bits} bits is not supported; convert it to RGB")
    if samples > MOST_SAMPLES:
        raise ImageFormatError(f"a TIFF of {samples} samples a pixel is not supported; convert it to RGB")
    working = BYTES_PER_BLOCK_PIXEL * max(0, _block_pixels(directory, width, height) - width * height)
    # One strip of all rows is the usual case, and is counted for 3 bytes a pixel.
    working += width * height * max(0, samples * bits // 8 - 3)
    rewritten = compression in _UNPACKED or samples > _OPENCVS_SAMPLES or _of_odd_depth(directory, bits, samples)
    if rewritten:
        working += _REWRITTEN_COPIES * width * height * samples * bits // 8
    orientation = directory.first(exif.ORIENTATION, 1)
    # What is divided by alpha is read with it, in its own depth, and then cut to 8 bits.
    alpha, changes = _alpha(directory)
    if alpha == _ASSOCIATED and samples == 2:  # OpenCV gives the grey alone, which would be judged dark
        raise ImageFormatError("a TIFF of grey multiplied by its alpha is not supported; save it without alpha")
    if alpha == _ASSOCIATED:
        working += width * height * samples * bits // 8
    return Header(
        "tiff",
        width,
        height,
        orientation if 1 <= orientation <= 8 else 1,
        bits,
        cmyk=directory.first(PHOTOMETRIC, 0) == _CMYK,
        transparent=bool(alpha),
        premultiplied=alpha == _ASSOCIATED,
        turned=True,
        working_bytes=working,
        rewritten=rewritten,
        pieces=() if rewritten else _written_over(changes | _last_page(directory)),
        notices=(*_colour_notices(directory.first(PHOTOMETRIC, 0), samples), *pages),
    )


def _of_odd_depth(directory: Directory, bits: int, samples: int) -> bool:
    """Whether OpenCV refuses the depth, and it can be brought to 8 bits: CMYK of 16, grey or a palette below 8.

    It reads strips of 1 bit, and no tiles of it.
    """
    if directory.first(COMPRESSION, 1) not in _REPACKED:
        return False
    if bits == 16:
        return directory.first(PHOTOMETRIC, 0) == _CMYK
    return samples == 1 and (bits in (2, 4) or (bits == 1 and directory.find(TILE_WIDTH) is not None))


def _colour_notices(photometric: int, samples: int) -> tuple[str, ...]:
    if photometric in _CIELAB:
        return ("CIELAB converted to RGB without a colour profile",)
    return (f"{samples} samples a pixel: the colours among them are judged",) if samples > _OPENCVS_SAMPLES else ()


def _check_tags(directory: Directory) -> None:
    seen = set()
    for entry in directory.entries:
        if entry.tag not in _ONCE:
            continue
        if entry.tag in seen:
            raise ImageCorrupt(f"the TIFF gives tag {entry.tag} twice")
        seen.add(entry.tag)
        if entry.tag in _SINGLE and (entry.kind not in _UNSIGNED or entry.count != 1):
            raise ImageCorrupt(
                f"the TIFF gives tag {entry.tag} {entry.count} times as type {entry.kind}, not as a number"
            )


def _bits(directory: Directory, samples: int) -> int:
    entry = directory.find(BITS)
    if entry is None:
        return 1
    values = directory.values(entry, max(samples, 1))
    if not values or len(set(values)) > 1:
        raise ImageFormatError(
            "a TIFF whose samples differ in depth is not supported; convert it to 8 bits per channel"
        )
    return values[0]


def _block_pixels(directory: Directory, width: int, height: int) -> int:
    """Pixels of the largest strip or tile. Raises ImageCorrupt where it or their number is out of proportion."""
    tiled = directory.find(TILE_WIDTH) is not None
    if tiled:
        columns, rows = directory.first(TILE_WIDTH, 0), directory.first(TILE_LENGTH, 0)
    else:
        columns, rows = width, directory.first(ROWS_PER_STRIP, _ALL_ROWS)
        rows = height if rows in (0, _ALL_ROWS) else rows
    if not columns or not rows:
        raise ImageCorrupt("the TIFF has tiles without pixels")
    if columns * rows > max(2 * width * height, SPARE_PIXELS):
        raise ImageCorrupt(f"the TIFF of {width} x {height} pixels has strips or tiles of {columns} x {rows}")
    blocks = -(-width // columns) * -(-height // rows)
    if blocks > MOST_BLOCKS:
        raise ImageCorrupt(f"the TIFF has {blocks} strips or tiles; at most {MOST_BLOCKS} are read")
    _check_places(directory, tiled)
    return columns * rows


def _check_places(directory: Directory, tiled: bool) -> None:
    size = len(directory.tiff)
    offsets, counts = (directory.find(tag) for tag in ((TILE_OFFSETS, TILE_COUNTS) if tiled else (OFFSETS, COUNTS)))
    if offsets is None or counts is None:
        return  # libtiff estimates what is not there, by the file's size
    places = zip(directory.values(offsets, MOST_BLOCKS), directory.values(counts, MOST_BLOCKS), strict=False)
    if any(offset + count > size for offset, count in places):
        raise ImageCorrupt("the TIFF has a strip or tile beyond the end of the file")


def _alpha(directory: Directory) -> tuple[int, dict[int, bytes]]:
    """The kind of its alpha, and what to write into the file, which keeps libtiff from multiplying colours by it.

    Alpha that is not associated is declared associated: colours then stay as they are.
    """
    entry = directory.find(EXTRA_SAMPLES)
    values = directory.values(entry, 1) if entry else ()
    if entry is None or not values or values[0] not in (_ASSOCIATED, _SEPARATE):
        return 0, {}
    if values[0] == _ASSOCIATED:
        return _ASSOCIATED, {}
    code = {1: "B", 3: "H", 4: "I", 16: "Q"}[entry.kind]
    return _SEPARATE, {entry.place: struct.pack(directory.order + code, _ASSOCIATED)}


def _last_page(directory: Directory) -> dict[int, bytes]:
    """What makes the first directory the last: OpenCV counts them all, and libtiff notes each."""
    place = directory.next_at
    if not any(directory.tiff[place]):
        return {}
    return {place.start: bytes(place.stop - place.start)}


def _written_over(changes: dict[int, bytes]) -> tuple[Piece, ...]:
    """The file with other bytes at these places; () where there are none."""
    pieces: list[Piece] = []
    done = 0
    for place, new in sorted(changes.items()):
        pieces += (slice(done, place), new)
        done = place + len(new)
    return (*pieces, slice(done, None)) if pieces else ()
