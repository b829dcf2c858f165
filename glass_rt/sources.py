"""Which images the arguments of a command mean: files, folders, glob patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from glass_rt.errors import ImageNotReadable
from glass_rt.image.header import looks_like_image
from glass_rt.verdict import Failure

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif")
)


def find_images(arguments: Sequence[str]) -> Iterator[str | Failure]:
    """Paths in the order of the arguments; an argument that means no image is a Failure in its place.

    A file is taken as it is, a folder gives its images at any depth in the order of their names, a pattern that is no
    file gives its matches. In folders, files count that are named like an image or start like one; names that begin
    with a dot do not.
    """
    for argument in arguments:
        if Path(argument).is_dir():
            yield from _or_reason(argument, _in_folder(argument), "the folder holds no images")
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            matches = (path for path in sorted(glob.glob(argument, recursive=True)) if Path(path).is_file())
            yield from _or_reason(argument, matches, "no file matches the pattern")
        else:
            yield argument


def _or_reason(argument: str, paths: Iterator[str], reason: str) -> Iterator[str | Failure]:
    found = False
    for path in paths:
        found = True
        yield path
    if not found:
        yield Failure(argument, ImageNotReadable(reason))


def _in_folder(folder: str) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = str(Path(where, name))
            if not name.startswith(".") and (Path(name).suffix.lower() in IMAGE_SUFFIXES or _starts_like_image(path)):
                yield path


def _starts_like_image(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return looks_like_image(file.read(64))
    except OSError:
        return False
