"""Files whose header lies: refused by name before a decoder sees them, in bounded time, with no memory taken."""

import gc
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import thread_time
from typing import Any

import numpy as np
import pytest

from glass_rt.errors import ImageCorrupt, ImageError, ImageFormatError
from glass_rt.image.decode import decode_image
from glass_rt.image.encoded import load
from glass_rt.image.header import read_header
from tests.fuzz.corpus import (
    PICTURE,
    Sample,
    corpus,
    encoded,
    gif_frame_on_screen,
    heic_grid,
    png_chunk,
    png_with,
    tiff_of,
    tiled_tiff,
    with_alpha,
)

pytestmark = pytest.mark.slow

# Plain loops of a million steps. A walk takes up to 110 of them, by processor; those that knew no bound took over 600.
LITTLE_WORK = 250

SAMPLES = {f"{sample.form} {sample.name}": sample for sample in corpus()}
BIG = b"II+\0\x08\0\0\0" + struct.pack("<Q", 1 << 63)  # a BigTIFF whose directory is beyond everything
RGB: dict[int, tuple[int, list[int]]] = {
    256: (3, [96]), 257: (3, [64]), 258: (3, [8, 8, 8]), 259: (3, [1]), 262: (3, [2]), 273: (4, [0]), 277: (3, [3]),
    278: (3, [64]), 279: (4, [96 * 64 * 3]),
}  # fmt: skip
PIXELS = np.asarray(PICTURE).tobytes()


def sample(name: str) -> bytes:
    if name not in SAMPLES:
        pytest.skip(f"no {name} can be made here")
    return SAMPLES[name].data


def changed(data: bytes, mark: bytes, behind: int, new: bytes, occurrence: int = 0) -> bytes:
    """The file with bytes replaced, counted from a mark in it."""
    at = -1
    for _ in range(occurrence + 1):
        at = data.index(mark, at + 1)
    return data[: at + behind] + new + data[at + behind + len(new) :]


def webp_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(payload)) + payload + b"\0" * (len(payload) & 1)


def webp_extended(size: tuple[int, int], flags: int, *chunks: bytes) -> bytes:
    body = webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + b"".join((side - 1).to_bytes(3, "little") for side in size))
    body += b"".join(chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def webp_frame(corner: tuple[int, int], size: tuple[int, int], stream: bytes) -> bytes:
    numbers = (corner[0] // 2, corner[1] // 2, size[0] - 1, size[1] - 1, 100)
    return webp_chunk(b"ANMF", b"".join(number.to_bytes(3, "little") for number in numbers) + b"\0" + stream)


def tiff_with(**tags: Any) -> bytes:
    named = {int(name[1:]): value for name, value in tags.items()}
    return tiff_of({**RGB, **named}, PIXELS)


def tiff_with_entry_twice(tag: int, value: int) -> bytes:
    """A second entry of the tag behind all others, in the place of one that is not needed."""
    data = tiff_of({**RGB, 60000: (4, [value])}, PIXELS)
    return changed(data, struct.pack("<H", 60000), 0, struct.pack("<H", tag))


def gif_of_codes(codes: bytes, size: tuple[int, int] = (8, 8)) -> bytes:
    blocks = b"".join(bytes([len(codes[i : i + 255])]) + codes[i : i + 255] for i in range(0, len(codes), 255))
    screen = struct.pack("<HHBBB", *size, 0x87, 0, 0) + bytes(768)
    return b"GIF89a" + screen + b"\x2c" + struct.pack("<HHHHB", 0, 0, *size, 0) + b"\x08" + blocks + b"\0;"


def jpeg_of_scans(width: int, height: int, scans: int, marker: int = 0xC2) -> bytes:
    """Frame header and scans without bits; nothing that a decoder could finish."""
    frame = (
        bytes([0xFF, marker]) + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes((1, 17, 0, 2, 17, 0, 3, 17, 0))
    )
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes((1, 0, 0, 63, 0))
    return b"\xff\xd8" + frame + scan * scans + b"\xff\xd9"


def png_of(width: int, height: int, stream: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", stream) + png_chunk(b"IEND", b"")


SIZE = struct.pack(">II", 64, 64)
LARGE = struct.pack(">II", 16000, 12000)

# name, file, what the refusal says
LIES: list[tuple[str, Callable[[], bytes], str]] = [
    ("tiff: directory at 2^63", lambda: BIG.ljust(80, b"\0"), "first directory gives no size"),
    ("tiff: width twice", lambda: tiff_with_entry_twice(256, 14000), "tag 256 twice"),
    ("tiff: height twice", lambda: tiff_with_entry_twice(257, 14000), "tag 257 twice"),
    ("tiff: rows per strip twice", lambda: tiff_with_entry_twice(278, 1), "tag 278 twice"),
    ("tiff: samples twice", lambda: tiff_with_entry_twice(277, 4), "tag 277 twice"),
    ("tiff: two widths in a tag", lambda: tiff_with(_256=(3, [96, 14000])), "2 times as type 3"),
    ("tiff: width as bytes", lambda: tiff_with(_256=(1, [96])), "as type 1"),
    ("tiff: width as signed number", lambda: changed(tiff_with(), b"\0\1\3\0", 2, b"\x09"), "as type 9"),
    ("tiff: width as fraction", lambda: changed(tiff_with(), b"\0\1\3\0", 2, b"\x05"), "as type 5"),
    ("tiff: height as float", lambda: changed(tiff_with(), b"\1\1\3\0", 2, b"\x0b"), "as type 11"),
    ("tiff: tiles of 256 megapixels", lambda: changed(changed(tiled_tiff(), b"\x42\1\3\0", 8, b"\x80\x3e"), b"\x43\1\3\0", 8, b"\x80\x3e"), "tiles of 16000 x 16000"),
    ("tiff: strips of 2^30 rows", lambda: tiff_with(_278=(4, [1 << 30])), "strips or tiles of 96 x"),
    ("tiff: strip beyond the file", lambda: tiff_with(_279=(4, [1 << 31])), "beyond the end"),
    ("tiff: strip at 2 GiB", lambda: changed(tiff_with(), b"\x11\1\4\0", 8, b"\0\0\0\x80"), "beyond the end"),
    ("tiff: 60 million strips", lambda: tiff_with(_256=(4, [1]), _257=(4, [60_000_000]), _278=(4, [1])), "60000000 strips"),
    ("tiff: 65535 samples", lambda: tiff_with(_277=(3, [65535])), "65535 samples"),
    ("tiff: depths that differ", lambda: tiff_with(_258=(3, [8, 8, 64])), "differ in depth"),
    ("png: a chunk of 2 GiB", lambda: png_with()[:33] + struct.pack(">I", 0x7FFFFFFF) + b"tEXt", "chunk of 2147483647 bytes"),
    ("png: pixels of 2 GiB", lambda: png_with()[:33] + struct.pack(">I", 0x7FFFFFFF) + b"IDAT", "chunk of 2147483647 bytes"),
    ("png: pixels that inflate for ever", lambda: png_of(64, 64, _bomb()), "inflate to more"),
    ("jpeg: two frame headers", lambda: _with_second_frame(sample("jpeg baseline")), "several frame headers"),
    ("jpeg: 500 scans of 196 megapixels", lambda: jpeg_of_scans(14000, 14000, 500), "98.0 billion pixels"),
    ("jpeg: 400 sequential scans of 196 megapixels", lambda: jpeg_of_scans(14000, 14000, 400, 0xC0), "78.4 billion pixels"),
    ("jpeg: a segment beyond the file", lambda: b"\xff\xd8\xff\xe1\xff\xff" + bytes(99), "inside its header"),
    ("webp: VP8X against VP8", lambda: webp_extended((64, 64), 0, sample("webp lossy")[12:]), "96 x 64 are coded"),
    ("webp: VP8X against VP8L", lambda: webp_extended((8000, 8000), 0, sample("webp lossless")[12:]), "96 x 64 are coded"),
    ("webp: a frame against its stream", lambda: webp_extended((96, 64), 2, webp_frame((0, 0), (32, 32), sample("webp lossy")[12:])), "96 x 64 are coded"),
    ("webp: a frame outside", lambda: webp_extended((96, 64), 2, webp_frame((2, 0), (96, 64), sample("webp lossy")[12:])), "outside its"),
    ("webp: a chunk beyond the file", lambda: changed(sample("webp lossy with alpha"), b"ALPH", 4, b"\xff\xff\xff\x7f"), "inside a chunk"),
    ("webp: two canvases", lambda: webp_extended((96, 64), 0, webp_chunk(b"VP8X", bytes(10)), sample("webp lossy")[12:]), "several VP8X"),
    ("gif: codes that start afresh", lambda: gif_of_codes(_gif_clears(400_000), (900, 900)), "start afresh"),
    ("gif: more codes than pixels", lambda: gif_of_codes(_gif_clears(400_000)), "bytes of codes for 8 x 8"),
    ("gif: ends in its codes", lambda: sample("gif palette")[:-300], "ends inside its blocks"),
    ("bmp: rows that are not there", lambda: changed(sample("bmp RGB"), b"BM", 18, struct.pack("<ii", 14000, 14000)), "before its 14000 rows"),
    ("avif: states less than is coded", lambda: changed(sample("avif plain"), b"ispe", 8, SIZE[:4] + struct.pack(">I", 20)), "96 x 64 are coded"),
    ("avif: states more than is coded", lambda: changed(sample("avif plain"), b"ispe", 8, LARGE), "96 x 64 are coded"),
    ("avif: codes more than it states", lambda: _with_coded_size(sample("avif plain"), 16000, 12000), "are coded"),
    ("avif: a sequence codes more", lambda: _with_coded_size(sample("avif sequence"), 16000, 12000), "are coded"),
    ("avif: a sequence's track is larger", lambda: changed(sample("avif sequence"), b"tkhd", 92, struct.pack(">II", 8000 << 16, 8000 << 16)), "a track says 8000 x 8000"),
    ("avif: a sequence's picture is larger", lambda: changed(sample("avif sequence"), b"av01\0\0", 28, struct.pack(">HH", 8000, 8000)), "its pictures 8000 x 8000"),
    ("avif: an item beyond the file", lambda: changed(sample("avif plain"), b"iloc", 22, struct.pack(">I", 1 << 30)), "beyond the end"),
    ("avif: a box beyond the file", lambda: changed(sample("avif plain"), b"mdat", -4, struct.pack(">I", 1 << 30)), "goes beyond"),
    ("heic: states less than is coded", lambda: changed(sample("heic plain"), b"ispe", 8, struct.pack(">II", 16, 16)), "are coded"),
    ("heic: an item that is not read", lambda: changed(sample("heic plain"), b"hvc1", 0, b"vvc1"), "coded as 'vvc1'"),
    ("heic: a grid that states another size", lambda: changed(sample("heic grid"), b"ispe", 8, LARGE, occurrence=1), "another size"),
    ("heic: a grid of too few tiles", lambda: changed(sample("heic grid"), b"idat", 6, b"\x0f\x0f"), "16 x 16 tiles has 4"),
    ("heic: a small grid of many tiles", lambda: heic_grid(sample("heic plain"), 200, 200, (64, 64)), "is made of"),
]  # fmt: skip


def _bomb() -> bytes:
    """4 MB that inflate to 4 GB: the same block of zeros again and again."""
    deflate = zlib.compressobj(9)
    deflate.compress(bytes(1 << 20))
    blocks = [deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH) for _ in range(4)]
    return b"\x78\xda" + blocks[3] * 4000


def _gif_clears(count: int) -> bytes:
    return (sum(256 << 9 * index for index in range(8))).to_bytes(9, "little") * (count // 8)


def _with_second_frame(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0")
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data[:end] + data[at:end] + data[end:]


def _with_coded_size(data: bytes, width: int, height: int) -> bytes:
    """With the sequence header of each picture made anew: reduced or not, as the encoder wrote it, 16 bits a side."""
    reduced = "000" + "11" + "01000" + "1111" * 2 + f"{width - 1:016b}{height - 1:016b}"
    unit = int(reduced.ljust(56, "0"), 2).to_bytes(7, "big")
    at = data.index(b"mdat") + 4
    while (at := data.find(b"\x12\0\x0a", at)) >= 0:
        length = data[at + 3]
        new = b"\x12\0\x0a" + bytes([length]) + unit.ljust(length, b"\0")[:length]
        data = data[:at] + new + data[at + 4 + length :]
        at += 4
    return data


@pytest.mark.parametrize(("make", "says"), [row[1:] for row in LIES], ids=[row[0] for row in LIES])
def test_a_header_that_lies_is_refused_by_name(make: Callable[[], bytes], says: str) -> None:
    with pytest.raises((ImageCorrupt, ImageFormatError), match=says):
        read_header(make())


# Containers full of nothing: what repeats, behind what, before what.
ENDLESS: list[tuple[str, Callable[[], tuple[bytes, bytes, bytes]]]] = [
    ("png chunks", lambda: (png_with()[:33], png_chunk(b"tEXt", b""), png_with()[33:])),
    ("png pixels without bytes", lambda: (png_with()[:33], png_chunk(b"IDAT", b""), png_with()[33:])),
    ("jpeg segments", lambda: (b"\xff\xd8", b"\xff\xe1\0\2", sample("jpeg baseline")[2:])),
    ("jpeg fill bytes", lambda: (b"\xff\xd8", b"\xff", sample("jpeg baseline")[2:])),
    ("jpeg bytes between segments", lambda: (sample("jpeg baseline")[:20], b"\0", sample("jpeg baseline")[20:])),
    ("jpeg restart markers", lambda: (b"\xff\xd8", b"\xff\xd0", sample("jpeg baseline")[2:])),
    ("webp chunks", lambda: (webp_extended((96, 64), 0), webp_chunk(b"junk", b""), sample("webp lossy")[12:])),
    ("gif extensions", lambda: (sample("gif palette")[:781], b"\x21\xfe\0", sample("gif palette")[781:])),
    ("gif blocks", lambda: (sample("gif palette")[:781] + b"\x21\xfe", b"\1\0", b"\0" + sample("gif palette")[781:])),
    ("avif boxes", lambda: (sample("avif plain")[:32], b"\0\0\0\x08free", sample("avif plain")[32:])),
    ("heic boxes", lambda: (sample("heic plain")[:28], b"\0\0\0\x08free", sample("heic plain")[28:])),
]


@contextmanager
def little_work() -> Iterator[None]:
    """At most LITTLE_WORK times the work of a plain loop, timed beside it: the bound is the same on a slow machine.

    The garbage collector passes over the objects of the tests before, as in a process of its own.
    """
    gc.freeze()
    start = thread_time()
    for _ in range(1_000_000):
        pass
    between = thread_time()
    try:
        yield
    finally:
        spent = thread_time() - between
        gc.unfreeze()
        assert spent < LITTLE_WORK * (between - start)


@pytest.mark.parametrize("make", [row[1] for row in ENDLESS], ids=[row[0] for row in ENDLESS])
def test_a_container_full_of_nothing_is_walked_in_bounded_time(
    make: Callable[[], tuple[bytes, bytes, bytes]],
) -> None:
    before, unit, behind = make()
    data = before + unit * ((32 << 20) // len(unit)) + behind
    with suppress(ImageError), little_work():
        read_header(data)


def test_lists_without_bytes_are_bounded() -> None:
    """65,535 places of an item, in numbers of no bytes each."""
    data = sample("avif plain")
    list_of_nothing = b"".join(struct.pack(">HHHH", number, 0, 0, 65_535) for number in range(1, 60_001))
    box = struct.pack(">I4sIHH", 16 + len(list_of_nothing), b"iloc", 1 << 24, 0, 60_000) + list_of_nothing
    head = data[: data.index(b"meta") - 4]
    with pytest.raises(ImageError, match="facts"), little_work():
        read_header(head + struct.pack(">I4sI", 12 + len(box), b"meta", 0) + box)


def test_of_a_million_pages_the_decoder_is_given_the_first() -> None:
    """OpenCV would count them all, and libtiff would note 100 bytes of each."""
    data = tiff_with()
    next_at = 8 + 2 + 12 * len(RGB)
    pages = b"".join(struct.pack("<HI", 0, len(data) + 6 * (index + 1)) for index in range(1000))
    header = read_header(data[:next_at] + struct.pack("<I", len(data)) + data[next_at + 4 :] + pages)
    assert header.pieces == (slice(0, next_at), bytes(4), slice(next_at + 4, None))
    assert read_header(data).pieces == ()


@pytest.mark.parametrize("frames", [2, 5])
def test_frames_that_are_never_shown_are_counted(frames: int) -> None:
    """Each takes the memory of a whole picture; more than a few are refused."""
    data = sample("avif plain")
    unit = b"\x1a\2\0\0"  # a frame header of nothing
    place = data.index(b"mdat") + 4
    meta = data.index(b"iloc") + 22
    length = int.from_bytes(data[meta : meta + 4], "big") + len(unit) * frames
    longer = data[:meta] + struct.pack(">I", length) + data[meta + 4 : place - 8]
    longer += struct.pack(">I4s", 8 + length, b"mdat") + data[place:] + unit * frames
    if frames > 4:
        with pytest.raises(ImageCorrupt, match="6 AV1 frames; at most 4"):
            read_header(longer)
    else:
        assert read_header(longer).working_bytes == 20 * 96 * 64 * frames


@pytest.mark.parametrize(
    "block",
    [
        BIG,
        b"II*\0\xff\xff\xff\xff",  # a directory beyond the block
        b"MM\0*\0\0\0\x08\xff\xff",  # 65,535 entries
        b"MM\0*\0\0\0\x08\0\2" + bytes(12),  # the second of two is not there
        b"PK\3\4 no such thing",
        b"",
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_that_cannot_be_read_is_a_notice_and_the_image_is_judged(form: str, block: bytes) -> None:
    if form == "JPEG":
        segment = b"\xff\xe1" + struct.pack(">H", 8 + len(block)) + b"Exif\0\0" + block
        data = encoded(PICTURE, "JPEG")
        data = data[:2] + segment + data[2:]
    elif form == "PNG":
        data = png_with(png_chunk(b"eXIf", block))
    elif form == "WEBP":
        still = encoded(PICTURE, "WEBP")[12:]
        data = webp_extended((96, 64), 8, still, webp_chunk(b"EXIF", block))
    else:
        sound = _exif_of_length(len(block))
        data = encoded(PICTURE, "AVIF", speed=10, exif=sound)
        data = changed(data, sound, 0, block.ljust(len(sound), b"\0"))
    image = load(data)
    assert image.info.orientation == 1
    assert (image.pixels == load(encoded(PICTURE, form, **({"speed": 10} if form == "AVIF" else {}))).pixels).all()
    assert [notice for notice in image.info.notices if notice.startswith("EXIF cannot be read: ")]


def _exif_of_length(length: int) -> bytes:
    """A sound block of that many bytes, or as few as it needs, to be replaced."""
    return b"II*\0\x08\0\0\0\0\0\0\0\0\0".ljust(length, b"m")


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "gif", "tiff", "bmp", "avif", "heic"])
def test_no_header_raises_anything_but_an_image_error(form: str) -> None:
    """Every byte of the first 700 set to 255, 128 and 0, and every truncation among them."""
    names = [name for name, made in SAMPLES.items() if made.form == form]
    if not names:
        pytest.skip(f"no {form} can be made here")
    for name in names:
        data = SAMPLES[name].data
        for place in range(4, min(700, len(data))):
            for variant in (
                *(data[:place] + bytes([value]) + data[place + 1 :] for value in (255, 128, 0)),
                data[:place],
            ):
                said = ""
                try:
                    read_header(variant)
                except ImageError as error:
                    said = str(error)
                assert "\n" not in said


def test_the_decoded_size_is_compared_with_the_headers() -> None:
    data = encoded(PICTURE, "BMP")
    header = read_header(data)
    with pytest.raises(ImageCorrupt, match="the header says 64 x 64 pixels; the decoder found 96 x 64"):
        decode_image(data, replace(header, width=64))


@pytest.mark.parametrize("error", [IndexError("list index out of range"), SyntaxError("no"), KeyError(1), Exception()])
def test_whatever_the_heic_decoder_raises_is_that_images_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pillow_heif, "open_heif", fail)
    with pytest.raises(ImageCorrupt, match="the HEIC cannot be decoded"):
        load(sample("heic plain"))


def test_large_progressive_photographs_have_the_scans_they_need() -> None:
    """200 megapixels in 10 to 16 scans; the bound is at 32."""
    for scans in (10, 16, 32):
        header = read_header(jpeg_of_scans(14142, 14142, scans))
        assert header.progressive
    with pytest.raises(ImageCorrupt, match=r"at most 6\.4 billion"):
        read_header(jpeg_of_scans(14142, 14142, 33))


def test_healthy_samples_are_all_judged() -> None:
    for name, made in SAMPLES.items():
        header = read_header(made.data)
        image = load(made.data)
        assert (image.info.width, image.info.height) == header.decoded_size, name
        assert image.info.format == made.form


def test_the_grid_is_its_tiles() -> None:
    tile, grid = load(sample("heic plain")).pixels, load(sample("heic grid")).pixels
    assert (grid == np.tile(tile, (2, 2, 1))).all()


def test_samples_are_of_every_format() -> None:
    assert {made.form for made in SAMPLES.values()} >= {"jpeg", "png", "webp", "gif", "tiff", "bmp", "avif"}
    assert isinstance(next(iter(SAMPLES.values())), Sample)
    assert gif_frame_on_screen((128, 100), (0, 0))[:6] == b"GIF89a"
    assert with_alpha().mode == "RGBA"
