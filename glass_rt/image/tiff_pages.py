"""Which of a TIFF's pictures is judged: the first, as by Pillow. A raw file's first is a preview: none is judged."""

from __future__ import annotations

from dataclasses import dataclass

from glass_rt.errors import ImageFormatError
from glass_rt.image.exif import Directory, other_directories

_WIDTH, _LENGTH, _PHOTOMETRIC, _SUBFILE, _OLD_SUBFILE, _DNG_VERSION = 256, 257, 262, 254, 255, 50706
_OF_SENSORS = (32803, 34892)  # colour filter arrays, and what is made linear of them
_CANON = slice(8, 10), b"CR"  # in a CR2, whose raw picture says little of itself
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_OLD_REDUCED = 2


@dataclass(frozen=True)
class _Picture:
    width: int
    height: int
    reduced: bool
    below: bool  # in a SubIFD

    @property
    def pixels(self) -> int:
        return self.width * self.height


def page_notices(first: Directory) -> tuple[str, ...]:
    """What is to be said of the pictures beside the first. Raises ImageFormatError for a camera's raw file."""
    others = list(other_directories(first))
    directories = [first, *(directory for directory, _ in others)]
    raw = any(one.first(_PHOTOMETRIC, 0) in _OF_SENSORS for one in directories)
    if raw or first.find(_DNG_VERSION) is not None or first.tiff[_CANON[0]] == _CANON[1]:
        raise ImageFormatError(
            "a camera's raw file is not supported: the picture that it shows first is a preview; develop it, and save "
            "it as JPEG, PNG or TIFF"
        )
    judged = _picture(first, below=False)
    pictures = [_picture(directory, below=below) for directory, below in others if not _is_mask(directory)]
    largest = max(pictures, key=lambda picture: picture.pixels, default=judged)
    if largest.pixels > judged.pixels and (judged.reduced or largest.below):
        sizes = f"{judged.width} x {judged.height} is judged; the largest has {largest.width} x {largest.height}"
        return (f"a reduced picture of {sizes}",)
    pages = 1 + sum(not (picture.reduced or picture.below) and picture.pixels > 0 for picture in pictures)
    return (f"several pages: the first of {pages} is judged",) if pages > 1 else ()


def _picture(directory: Directory, *, below: bool) -> _Picture:
    reduced = directory.first(_SUBFILE, 0) & _REDUCED or directory.first(_OLD_SUBFILE, 0) == _OLD_REDUCED
    return _Picture(directory.first(_WIDTH, 0), directory.first(_LENGTH, 0), bool(reduced), below)


def _is_mask(directory: Directory) -> bool:
    return bool(directory.first(_SUBFILE, 0) & _MASK)
