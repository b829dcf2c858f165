"""Which images the arguments of a command mean: files, folders, glob patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from glass_rt.errors import ImageNotReadable
from glass_rt.image.header import looks_like_image
from glass_rt.results.verdict import Failure

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif")
)


def find_images(arguments: Sequence[str]) -> Iterator[str | Failure]:
    """Paths in the order of the arguments; an argument that means no image is a Failure in its place.

    A file is taken as it is, a folder gives its images at any depth in the order of their names, a pattern that is no
    file gives its matches. In folders, files count that are named like an image or start like one; pipes, devices and
    names that begin with a dot do not. A folder that cannot be read is a Failure too, at any depth.
    """
    for argument in arguments:
        if os.path.isdir(argument):  # which, unlike Path's, has an answer for names that the system refuses
            yield from _or_reason(argument, _in_folder(argument), "the folder holds no images")
        elif is_pattern(argument):
            matches = (path for path in sorted(glob.glob(argument, recursive=True)) if os.path.isfile(path))
            yield from _or_reason(argument, matches, "no file matches the pattern")
        else:
            yield argument


def is_pattern(argument: str) -> bool:
    """Whether an argument is a glob pattern: a file may have such a name."""
    return glob.has_magic(argument) and not os.path.lexists(argument)


def _or_reason(argument: str, paths: Iterator[str | Failure], reason: str) -> Iterator[str | Failure]:
    found = False
    for path in paths:
        found = True
        yield path
    if not found:
        yield Failure(argument, ImageNotReadable(reason))


def _in_folder(folder: str) -> Iterator[str | Failure]:
    unread: list[Failure] = []

    def note(error: OSError) -> None:
        reason = ImageNotReadable(f"the folder {error.filename} cannot be read: {error.strerror}")
        unread.append(Failure(error.filename, reason))

    for where, folders, files in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = str(Path(where, name))
            if name.startswith(".") or (os.path.exists(path) and not os.path.isfile(path)):
                continue  # reading a pipe may wait for ever
            if Path(name).suffix.lower() in IMAGE_SUFFIXES or _starts_like_image(path):
                yield path
    yield from unread


def _starts_like_image(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return looks_like_image(file.read(64))
    except OSError:
        return False
