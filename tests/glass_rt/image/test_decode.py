"""Pixels are Pillow's; whatever is no image is refused by name, before it costs anything."""

import hashlib
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from glass_bench.sample import landscape

from glass_rt.errors import ImageCorrupt, ImageError, ImageFormatError, ImageNotReadable, ImageTooLarge
from glass_rt.image.encoded import from_array, load
from glass_rt.image.header import read_header
from tests.support import GOLDEN

VIEWS: dict[str, dict[str, Any]] = json.loads((GOLDEN / "global_views.json").read_text())
PICTURE = PIL.Image.fromarray(landscape(96, 64, seed=1))
# Files whose pixels Pillow and we are known to read differently, or that only one of us reads.
PILLOW_REFUSES = {"arithmetic.jpg", "bitflip_05.jpg", "png_ztxt_bomb.png"}


def encoded(picture: PIL.Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", VIEWS)
def test_decoded_pixels_have_the_golden_hash(name: str, real_images: Path) -> None:
    (path,) = real_images.glob(f"*/*/{name}")
    image = load(path)
    assert hashlib.sha256(image.pixels.tobytes()).hexdigest() == VIEWS[name]["rgb_sha256"]
    assert (image.info.width, image.info.height) == (VIEWS[name]["width"], VIEWS[name]["height"])
    assert image.info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_real_image_has_pillows_pixels(real_images: Path) -> None:
    paths = [path for kind in ("real", "fake") for path in real_images.glob(f"{kind}/*/*")]
    assert len(paths) > 40
    for path in paths:
        with PIL.Image.open(path) as picture:
            assert (load(path).pixels == np.asarray(picture.convert("RGB"))).all(), path.name


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_files_are_read_as_pillow_reads_them_or_refused(real_images: Path) -> None:
    paths = [path for path in sorted(real_images.glob("hostile/*/*")) if not path.name.startswith("bomb_png_rgb8")]
    assert len(paths) > 270
    for path in paths:
        try:
            ours = load(path)
        except ImageError:
            ours = None
        try:
            with PIL.Image.open(path) as picture:
                sixteen_bit_grey = picture.mode.startswith("I;16")
                theirs = np.asarray(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
            assert ours is None or path.name in PILLOW_REFUSES, path.name
            continue
        if ours is None:
            # Pillow reads one PNG whose checksum is wrong.
            assert path.name == "xcsn0g01.png"
        elif sixteen_bit_grey:  # Pillow clips at 255, which makes nearly everything white
            assert "16 bits per channel reduced to 8" in ours.info.notices
        else:
            assert np.abs(ours.pixels.astype(int) - theirs).max() <= (1 if path.name == "cmyk.jpg" else 0), path.name


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
def test_each_format_is_told_by_content_and_read_as_pillow_reads_it(form: str) -> None:
    data = encoded(PICTURE, form)
    image = load(data)
    assert image.info.format == form.lower()
    assert (image.info.width, image.info.height) == (96, 64)
    assert image.info.notices == ()
    assert (image.pixels == np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))).all()


def test_heic_is_read_with_the_optional_package() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(PICTURE).save(buffer, quality=95)
    image = load(buffer.getvalue())
    assert image.info.format == "heic"
    assert np.abs(image.pixels.astype(int) - np.asarray(PICTURE)).mean() < 6


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_other_modes_are_converted_as_pillow_converts_them(mode: str) -> None:
    data = encoded(PICTURE.convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    image = load(data)
    assert (image.pixels == np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))).all()
    assert any("transparency" in notice for notice in image.info.notices) == (mode in ("LA", "RGBA"))
    assert any("CMYK" in notice for notice in image.info.notices) == (mode == "CMYK")


@pytest.mark.parametrize("form", ["WEBP", "AVIF", "PNG"])
def test_alpha_is_dropped_not_blended(form: str) -> None:
    with_alpha = PICTURE.copy()
    with_alpha.putalpha(PICTURE.convert("L"))
    data = encoded(with_alpha, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    image = load(data)
    assert (image.pixels == np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))).all()
    assert "transparency dropped: the colours under it are judged" in image.info.notices


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_judged(form: str) -> None:
    data = encoded(PICTURE, form, save_all=True, append_images=[PICTURE.rotate(90), PICTURE.rotate(10)])
    image = load(data)
    assert (image.pixels == np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))).all()
    assert "animated: the first frame is judged" in image.info.notices


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_is_ignored_as_in_training_and_said(form: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if form == "TIFF" else {"exif": exif.tobytes()}
    data = encoded(PICTURE, form, **options)
    image = load(data)
    assert (image.pixels == np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))).all()
    noticed = [notice for notice in image.info.notices if notice.startswith("EXIF orientation")]
    assert len(noticed) == (0 if orientation == 1 else 1)
    assert image.info.orientation == (1 if form == "TIFF" else orientation)  # TIFFs come upright from both decoders


def test_a_16_bit_image_is_reduced_to_its_high_bytes() -> None:
    grey = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    image = load(encoded(PIL.Image.fromarray(grey), "PNG"))
    assert np.abs(image.pixels[:, :, 0].astype(int) - (grey >> 8)).max() <= 1
    assert image.info.notices == ("16 bits per channel reduced to 8",)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused(form: str, kept: float) -> None:
    data = encoded(PICTURE, form)
    with pytest.raises((ImageCorrupt, ImageFormatError)):
        load(data[: int(len(data) * kept)])


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", ImageFormatError, "the file is empty"),
        (b"hello, this is text", ImageFormatError, "not an image that can be read"),
        (b"<!doctype html><p>", ImageFormatError, "it looks like HTML"),
        (b"%PDF-1.7", ImageFormatError, "it looks like PDF"),
        (b"PAR1\x15\x04\x15\xb4", ImageFormatError, "it looks like Parquet, whose images `glass-rt bulk` judges"),
        (b"\x89PNG\r\n\x1a\n", ImageCorrupt, "PNG does not start with an IHDR"),
        (b"\xff\xd8\xff", ImageCorrupt, "inside its header"),
        (b"\xff\xd8\xff\xd9", ImageCorrupt, "no frame header"),
        (b"BM" + bytes(60), ImageCorrupt, "0 x 0 pixels"),
        (b"II*\0" + b"\xff" * 20, ImageCorrupt, "first directory gives no size"),
        (b"RIFF\0\0\0\0WEBPJUNK", ImageCorrupt, "unknown chunk"),
        (b"GIF89a", ImageCorrupt, "inside its header"),
    ],
)
def test_what_is_no_image_is_refused_by_name(data: bytes, error: type[ImageError], says: str) -> None:
    with pytest.raises(error, match=says):
        load(data)


def test_the_limit_in_pixels_is_checked_before_decoding() -> None:
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 30000, 30000, 8, 2, 0, 0, 0)
    with pytest.raises(ImageTooLarge, match="30000 x 30000 is 900 megapixels; the limit is 200"):
        load(header)  # nothing there to decode: the header alone decides
    data = encoded(PICTURE, "JPEG")
    assert load(data, max_pixels=96 * 64).info.width == 96
    with pytest.raises(ImageTooLarge):
        load(data, max_pixels=96 * 64 - 1)


def test_a_progressive_jpeg_of_a_thousand_scans_is_refused_before_it_is_decoded() -> None:
    """A scan is a few bytes of the file, and goes over all its pixels."""
    data = encoded(PICTURE, "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]

    def with_scans(count: int) -> bytes:
        return data[:-2] + scan * (count - data.count(b"\xff\xda")) + data[-2:]

    assert read_header(with_scans(500)).progressive
    with pytest.raises(ImageCorrupt, match="1000 scans; at most 500"):
        load(with_scans(1000))
    assert load(data).pixels.shape == (64, 96, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
def test_headers_give_the_size_for_every_format(form: str) -> None:
    header = read_header(encoded(PICTURE, form))
    assert (header.width, header.height) == (96, 64)


def test_lossless_webp_headers_are_read() -> None:
    header = read_header(encoded(PICTURE, "WEBP", lossless=True))
    assert (header.width, header.height, header.format) == (96, 64, "webp")


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageNotReadable, match="no such file"):
        load(tmp_path / "absent.png")
    with pytest.raises(ImageNotReadable, match="folder"):
        load(tmp_path)
    with pytest.raises(ImageNotReadable):
        load("null\0byte.png")


def test_arrays_are_taken_as_they_are() -> None:
    pixels = np.asarray(PICTURE)
    image = from_array(pixels)
    assert (image.pixels == pixels).all()
    assert image.info.format == "array"
    assert image.info.sha256 != from_array(pixels.reshape(96, 64, 3)).info.sha256  # same bytes, another shape
    for wrong in (pixels.astype(np.float32), pixels[:, :, 0], pixels[:0]):
        with pytest.raises(ImageFormatError, match="expected"):
            from_array(wrong)  # type: ignore[arg-type]
