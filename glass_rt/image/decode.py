"""Bytes to RGB pixels, equal to Pillow's `convert("RGB")`.

OpenCV decodes everything but HEIC, BMPs of masks, and JPEGs where simplejpeg is installed (the `jpeg` extra). On real
photographs and on the formats in the tests the pixels are identical to Pillow's; where they are known to differ (16-bit
grey) the image carries a notice. What comes out has the size that the header promised, or is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

try:  # the same pixels as OpenCV's, in less time
    import simplejpeg
except ImportError:
    simplejpeg = None

from glass_rt.errors import (
    GlassError,
    ImageCorrupt,
    ImageFormatError,
    ImageNotReadable,
    MissingDependency,
    OutOfMemory,
    first_line,
)
from glass_rt.image.bmp_pixels import unmasked
from glass_rt.image.buffer import PixelBuffer
from glass_rt.image.header import Frame, Header
from glass_rt.image.memory_file import can_hold_files, file_in_memory
from glass_rt.image.tiff_blocks import uncompressed
from glass_rt.image.tiff_damage import check_deflated, check_lzw

Pixels: TypeAlias = NDArray[np.uint8]  # (height, width, 3), RGB

BYTES_PER_PIXEL = 3

# Most bytes per pixel that were seen while one image of each format was decoded, its pixels among them. From encoded
# bytes OpenCV decodes into memory of its own and copies that for Python; from a file into Python's.
_COPIED = 2 * BYTES_PER_PIXEL
_PEAK_BYTES_PER_PIXEL = {
    "jpeg": _COPIED,
    "png": _COPIED,
    "bmp": _COPIED,
    "webp": 9,
    "tiff": 11,
    "gif": 12,
    "avif": 20,
    "heic": 15,
}
_PEAK_WITH_ALPHA = {"avif": 38, "heic": 20}  # a second image, of one channel
_PEAK_OF_ANIMATED_WEBP = 12
# Brightness from 16 to 235 as libavif brings it to 0 to 255; OpenCV does so with colours, and leaves grey as it is.
_FULL_OF_LIMITED = np.clip(np.round((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
_UNUSUAL_SAMPLING = "subsampling"  # what simplejpeg says of a healthy JPEG that it does not know how to read
_OF_BGRA, _OF_RGBA = slice(2, None, -1), slice(0, 3)  # red, green and blue
_FROM_FILE = ("png", "webp")  # not jpeg, whose missing end libjpeg makes up; not tiff, which OpenCV turns


@dataclass(frozen=True)
class ImageInfo:
    """What is known of an image beside its pixels.

    Width and height are those of the stored pixels: EXIF orientation is *not* applied, as in training. `sha256` is
    that of the file's bytes, or for an array of `"H x W"` and its row-major bytes. `jpeg_quality`: 1..100, as its
    tables of quantisation tell it; None of other formats.
    """

    width: int
    height: int
    format: str
    sha256: str
    orientation: int = 1
    notices: tuple[str, ...] = ()
    jpeg_quality: int | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded image: uint8 (H, W, 3), RGB."""

    info: ImageInfo
    pixels: Pixels


def _peak_bytes_per_pixel(header: Header) -> int:
    if header.format == "jpeg":
        pixels = BYTES_PER_PIXEL if simplejpeg is not None and not header.cmyk else _COPIED
        # A progressive one's coefficients are kept until its end, two bytes for each sample.
        return max(pixels, BYTES_PER_PIXEL + (8 if header.cmyk else 6)) if header.progressive else pixels
    if header.format == "png" and can_hold_files():
        return BYTES_PER_PIXEL
    if header.format == "webp" and header.animated:
        return _PEAK_OF_ANIMATED_WEBP
    if header.transparent and header.format in _PEAK_WITH_ALPHA and not header.pieces:
        return _PEAK_WITH_ALPHA[header.format]
    return _PEAK_BYTES_PER_PIXEL[header.format]


def decode_image(data: bytes, header: Header, buffer: PixelBuffer | None = None) -> Image:
    """Decodes the bytes of an image whose header was read before.

    The pixels may lie in `buffer`, where one is given, and are valid until its next use. Raises ImageFormatError (a
    kind that no decoder here reads), OutOfMemory, ImageCorrupt (truncated or damaged: a part of a picture
    is never judged) or MissingDependency.
    """
    pixels, warning = _decode_pixels(data, header, buffer)
    height, width = pixels.shape[:2]
    if (width, height) != header.decoded_size:
        promised = " x ".join(map(str, header.decoded_size))
        raise ImageCorrupt(f"the header says {promised} pixels; the decoder found {width} x {height}")
    return Image(image_info(data, header, warning), pixels)


def image_info(data: bytes, header: Header, remarks: tuple[str, ...] = ()) -> ImageInfo:
    """What is known of a file's image once it was decoded; `remarks`: the decoder's, the first of the notices."""
    width, height = header.decoded_size
    return ImageInfo(
        width,
        height,
        header.format,
        hashlib.sha256(data).hexdigest(),
        1 if header.turned else header.orientation,
        (*remarks, *_notices(header)),
        header.jpeg_quality,
    )


def peak_bytes(header: Header, size: int) -> int:
    """Bytes that `decode_image` holds at most for a file of `size` bytes, the file among them."""
    copies = 2 if header.format in _FROM_FILE or header.pieces else 1
    pixels = _peak_bytes_per_pixel(header) * header.width * header.height
    return copies * size + pixels + header.working_bytes


def _decode_pixels(data: bytes, header: Header, buffer: PixelBuffer | None) -> tuple[Pixels, tuple[str, ...]]:
    """Pixels, and what the decoder had to remark."""
    if header.format == "heic":
        return _decode_heic(data), ()
    if header.format == "bmp" and header.rewritten:
        return _decode_bmp(data, header), ()
    if header.format == "jpeg" and simplejpeg is not None and not header.cmyk:
        try:
            memory = None if buffer is None else buffer.take(3 * header.width * header.height)
            return simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, buffer=memory), ()
        except ValueError as error:  # it refuses whatever libjpeg warns of; OpenCV may still read it
            remark = first_line(error)
            healthy = _UNUSUAL_SAMPLING in remark
            return _decode_opencv(data, header), () if healthy else (f"damaged JPEG: {remark}",)
    pixels = _decode_opencv(data, header)
    return (pixels if header.frame is None else _on_screen(pixels, header, header.frame)), ()


def _decode_bmp(data: bytes, header: Header) -> Pixels:
    try:
        return unmasked(data)
    except MemoryError:
        raise OutOfMemory(f"decode {header.width} x {header.height} pixels") from None


def _decode_opencv(data: bytes, header: Header) -> Pixels:
    rgb = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    whole = memoryview(data)
    parts = [whole[part] if isinstance(part, slice) else part for part in header.pieces] or [data]
    try:
        if header.format == "tiff":
            check_lzw(data)
        if header.rewritten:
            parts = [uncompressed(data)]
        elif header.format == "tiff":
            check_deflated(data)
        if header.format in _FROM_FILE and can_hold_files():
            with file_in_memory(*parts) as path:
                pixels = cv2.imread(path, None, rgb)  # None: into an array of Python's
        else:
            encoded = np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), np.uint8)
            if header.format == "avif":  # OpenCV 5.0 swaps red and blue of an AVIF with alpha when asked for RGB
                bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR_BGR | cv2.IMREAD_IGNORE_ORIENTATION)
                pixels = None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
                if pixels is not None and header.limited_grey:
                    cv2.LUT(pixels, _FULL_OF_LIMITED, dst=pixels)
            elif header.premultiplied:
                stored = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
                divided = None if stored is None else _divided_by_alpha(stored, _OF_BGRA)
                pixels = cv2.imdecode(encoded, rgb) if divided is None else divided
            else:
                pixels = cv2.imdecode(encoded, rgb)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise OutOfMemory(f"decode {header.width} x {header.height} pixels") from None
        raise ImageCorrupt(f"the {header.format.upper()} cannot be decoded: {error.err or error}") from error
    except OSError as error:
        raise ImageNotReadable(f"no room for a copy of the file in memory: {error.strerror or error}") from error
    except MemoryError:
        raise OutOfMemory(f"decode {header.width} x {header.height} pixels") from None
    if pixels is None:
        raise _refusal(header, len(data))
    if pixels.dtype != np.uint8:
        raise ImageFormatError(f"{pixels.dtype} pixels are not supported; convert the image to 8 bits per channel")
    return pixels.astype(np.uint8, copy=False)


def _divided_by_alpha(stored: NDArray[Any], order: slice, *, keep_hidden: bool = False) -> Pixels | None:
    """RGB of colours (`order`) and alpha, 8 or 16 bits, which were multiplied, as Pillow divides; None of others.

    Colours under no alpha at all are 0, or with `keep_hidden` as they are stored: Pillow has both ways.
    """
    if stored.ndim != 3 or stored.shape[2] != 4 or stored.dtype not in (np.uint8, np.uint16):
        return None
    if stored.dtype == np.uint16:
        stored = (stored >> 8).astype(np.uint8)
    rgb = np.empty((*stored.shape[:2], BYTES_PER_PIXEL), np.uint8)
    for row, result in zip(stored, rgb, strict=True):
        alpha = row[:, 3:].astype(np.uint16)
        colours = row[:, order].astype(np.uint16)
        whole = np.minimum(colours * 255 // np.maximum(alpha, 1), 255)
        result[...] = np.where(alpha == 0, colours if keep_hidden else 0, whole)
    return rgb


def _on_screen(pixels: Pixels, header: Header, frame: Frame) -> Pixels:
    """The frame where it lies on its screen. Raises ImageCorrupt where it is not of its stated size."""
    if pixels.shape[:2] != (frame.height, frame.width):
        raise ImageCorrupt(f"the header says {frame.width} x {frame.height} pixels; the decoder found another size")
    screen = np.empty((header.height, header.width, BYTES_PER_PIXEL), np.uint8)
    screen[...] = frame.colour
    screen[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width] = pixels
    return screen


def _refusal(header: Header, size: int) -> GlassError:
    """Why OpenCV gave no pixels: it does not say, and has no memory for them as often as it dislikes the file."""
    try:
        np.empty(peak_bytes(header, size), np.uint8)
    except MemoryError:
        return OutOfMemory(f"decode {header.width} x {header.height} pixels")
    if header.format == "tiff" and header.depth not in (1, 8, 16):
        return ImageCorrupt(
            f"a TIFF of {header.depth} bits per channel is not supported; convert the image to 8 bits per channel"
        )
    return ImageCorrupt(f"the {header.format.upper()} is truncated, damaged or of an unsupported kind")


def _decode_heic(data: bytes) -> Pixels:
    try:
        import pillow_heif
    except ImportError:
        raise MissingDependency("pillow-heif", "heic", "reading HEIC images") from None
    try:
        heif = pillow_heif.open_heif(data, convert_hdr_to_8bit=True, bgr_mode=False)
        stored = np.asarray(heif)
        if heif.premultiplied_alpha:
            divided = _divided_by_alpha(stored, _OF_RGBA, keep_hidden=True)
            stored = stored if divided is None else divided
    except MemoryError:
        raise OutOfMemory("decode this HEIC") from None
    except Exception as error:  # it raises what its authors came upon: IndexError, SyntaxError, ...
        raise ImageCorrupt(f"the HEIC cannot be decoded: {first_line(error)}") from error
    if stored.ndim == 2:
        stored = stored[:, :, None].repeat(3, axis=2)
    return np.ascontiguousarray(stored[:, :, :3], dtype=np.uint8)


def _notices(header: Header) -> tuple[str, ...]:
    notices = list(header.notices)
    if header.orientation != 1:
        state = "applied by the decoder" if header.turned else "ignored, as in training"
        notices.append(f"EXIF orientation {header.orientation} {state}")
    if header.depth > 8:
        notices.append(f"{header.depth} bits per channel reduced to 8")
    if header.cmyk:
        notices.append("CMYK converted to RGB without its colour profile")
    if header.transparent:
        notices.append("transparency dropped: the colours under it are judged")
    if header.animated:
        notices.append("animated: the first frame is judged")
    return tuple(notices)
