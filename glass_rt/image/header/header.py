"""The facts that every container's walk gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

FORMATS = ("jpeg", "png", "webp", "avif", "tiff", "bmp", "gif", "heic")
# Bytes that stand in the place of the file's, or a stretch of the file.
Piece: TypeAlias = "bytes | slice"


@dataclass(frozen=True)
class Frame:
    """Where on an image its decoded frame lies, and the colour (RGB) of the rest."""

    left: int
    top: int
    width: int
    height: int
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Header:
    """Facts from an image's header. Width and height are in stored pixels, before any EXIF orientation.

    `pieces`: what the decoder is given of the file, in this order; the whole of it where there are none.
    """

    format: str  # one of FORMATS
    width: int
    height: int
    orientation: int = 1  # EXIF 1..8
    depth: int = 8  # bits per sample
    cmyk: bool = False
    progressive: bool = False
    transparent: bool = False
    animated: bool = False
    premultiplied: bool = False  # the stored colours are multiplied by alpha
    limited_grey: bool = False  # an AVIF's brightness alone, from 16 to 235, which OpenCV leaves as it is
    rewritten: bool = False  # a TIFF that is unpacked before OpenCV reads it, or a BMP that OpenCV does not read
    turned: bool = False  # the decoder applies the orientation
    working_bytes: int = 0  # that its decoder takes beside what its pixels need
    frame: Frame | None = None  # where it is not the whole image
    pieces: tuple[Piece, ...] = field(default=(), repr=False)
    notices: tuple[str, ...] = ()  # what the file lacks
    jpeg_quality: int | None = None  # 1..100, by the table of quantisation for brightness

    @property
    def decoded_size(self) -> tuple[int, int]:
        """Width and height as the decoder gives them."""
        return (self.height, self.width) if self.turned and self.orientation >= 5 else (self.width, self.height)
