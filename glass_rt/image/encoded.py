"""An image as it comes in: its bytes read once, its header parsed once, its size checked before a decoder starts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import ImageError, ImageFormatError, ImageNotReadable, ImageTooLarge
from glass_rt.image.buffer import PixelBuffer
from glass_rt.image.decode import BYTES_PER_PIXEL, Image, ImageInfo, decode_image, peak_bytes
from glass_rt.image.header import Header, looks_like_image, read_header
from glass_rt.machine.named_file import read_named, read_stream

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | NDArray[np.uint8]

DEFAULT_MAX_PIXELS = 200_000_000
MOST_BYTES = (1 << 31) - 1  # of a file; decoders take no more


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """The bytes of an image file and what its header says; `path` where it came from one.

    `read_ms`: how long reading and parsing took.
    """

    path: str | None
    data: bytes
    header: Header
    read_ms: float

    @property
    def peak_bytes(self) -> int:
        """Bytes that decoding holds at most, those of the file among them; an estimate by the header alone."""
        return peak_bytes(self.header, len(self.data))

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels, as they are judged."""
        width, height = self.header.decoded_size
        return height, width

    @property
    def decoded_bytes(self) -> int:
        """Bytes that are held once it is decoded: those of the file and of the pixels."""
        height, width = self.size_hw
        return len(self.data) + BYTES_PER_PIXEL * height * width

    @property
    def given_bytes(self) -> int:
        """Bytes that are held before it is decoded: those of the file."""
        return len(self.data)

    def decode(self, buffer: PixelBuffer | None = None) -> Image:
        """The pixels; with a `buffer` they may lie in it, and are valid until its next use.

        Raises ImageCorrupt, ImageFormatError, ImageTooLarge or MissingDependency, as `decode_image` does.
        """
        with _named(self.data):
            return decode_image(self.data, self.header, buffer)


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """An image that came as an array of pixels: uint8 (H, W, 3), RGB. Stands in the place of an `EncodedImage`."""

    pixels: NDArray[np.uint8]
    path: None = None
    read_ms: float = 0.0

    @property
    def peak_bytes(self) -> int:
        """Bytes of the pixels."""
        return self.pixels.nbytes

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels; 0 where the array is none of an image."""
        height, width = (*self.pixels.shape, 0, 0)[:2]
        return height, width

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the pixels."""
        return self.pixels.nbytes

    @property
    def given_bytes(self) -> int:
        """Bytes of the pixels."""
        return self.pixels.nbytes

    def decode(self, buffer: PixelBuffer | None = None) -> Image:
        """The pixels as they are. Raises ImageFormatError where shape or type are not those of an image."""
        return from_array(self.pixels)


def read_image(source: ImageSource, max_pixels: int = DEFAULT_MAX_PIXELS) -> EncodedImage | ArrayImage:
    """An image from a path, from encoded bytes, or from an RGB uint8 (H, W, 3) array; nothing is decoded yet.

    Raises ImageNotReadable (the system's reason), ImageFormatError (not a supported image), ImageCorrupt (the header
    ends early or contradicts itself) or ImageTooLarge (more than `max_pixels`, by the header).
    """
    if isinstance(source, np.ndarray):
        return ArrayImage(source)
    start = perf_counter()
    if isinstance(source, (bytes, bytearray, memoryview)):
        path, data = None, bytes(source)
    else:
        path, data = os.fspath(source), read_file(source)
    with _named(data):
        header = read_header(data)
        _check_size(header, max_pixels)
    return EncodedImage(path, data, header, (perf_counter() - start) * 1e3)


def load(source: ImageSource, *, max_pixels: int = DEFAULT_MAX_PIXELS, buffer: PixelBuffer | None = None) -> Image:
    """A decoded image, in one call: `read_image`, then `decode`, with the errors of both."""
    return read_image(source, max_pixels).decode(buffer)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an image file or pipe, of which no more is read where it does not begin like an image.

    Raises ImageNotReadable with the system's reason, and ImageFormatError.
    """
    return _read(lambda: read_named(path, MOST_BYTES, _check_start))


def read_piped(read: Callable[[int], bytes]) -> bytes:
    """The bytes of an image from a stream that `read(bytes)` reads, as `read_file` has it.

    Raises the stream's own OSError where it cannot be read: only the caller knows what the stream is.
    """
    return read_stream(read, MOST_BYTES, _check_start)


def _check_start(first: bytes) -> None:
    if not looks_like_image(first):
        read_header(first)  # which has the words for it


def _read(read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageNotReadable("no such file") from None
    except IsADirectoryError:
        raise ImageNotReadable("this is a folder, not an image") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageNotReadable(f"the file cannot be read: {reason}") from error


def from_array(pixels: NDArray[np.uint8]) -> Image:
    """Wraps an RGB uint8 (H, W, 3) array; its identity is the SHA-256 of `"H x W"` and the row-major bytes."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ImageFormatError(f"array: got {pixels.shape} {pixels.dtype}; expected (height, width, 3) uint8, RGB")
    contiguous = np.ascontiguousarray(pixels)
    digest = hashlib.sha256(f"{pixels.shape[0]} x {pixels.shape[1]}".encode())
    digest.update(contiguous.data)
    return Image(ImageInfo(pixels.shape[1], pixels.shape[0], "array", digest.hexdigest()), contiguous)


@contextmanager
def _named(data: bytes) -> Iterator[None]:
    """Gives an error of the image the SHA-256 of its bytes, by which it is known again under another name."""
    try:
        yield
    except ImageError as error:
        error.sha256 = hashlib.sha256(data).hexdigest()
        raise


def _check_size(header: Header, max_pixels: int) -> None:
    if header.width * header.height > max_pixels:
        megapixels = header.width * header.height / 1e6
        raise ImageTooLarge(
            f"{header.width} x {header.height} is {megapixels:.0f} megapixels; "
            f"the limit is {max_pixels / 1e6:.0f} (raise it with --max-pixels)"
        )
