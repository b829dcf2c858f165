"""Which images the arguments of a command mean: files, folders, glob patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from glass_rt.errors import ImageNotReadable
from glass_rt.image.header import looks_like_image
from glass_rt.inference.passed_over import OTHER_SUFFIXES, RAW_SUFFIXES, PassedOver
from glass_rt.machine.folders import walk
from glass_rt.results.verdict import Failure

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif")
)


def find_images(arguments: Sequence[str], passed_over: PassedOver | None = None) -> Iterator[str | Failure]:
    """Paths in the order of the arguments; an argument that means no image is a Failure in its place.

    A file is taken as it is, a folder gives its images at any depth in the order of their names, a pattern that is no
    file gives its matches. In folders, files count that are named like an image or start like one; pipes, devices and
    names that begin with a dot do not. Links to folders are followed, each folder once (see `folders.walk`). A folder
    that cannot be read is a Failure too, at any depth. A path that several arguments mean comes once, in its first
    place. `passed_over` is told of files in folders that look like images of kinds that are not read.
    """
    items = _meant_by(arguments, passed_over)
    return items if len(arguments) == 1 else _each_once(items)


def _meant_by(arguments: Sequence[str], passed_over: PassedOver | None) -> Iterator[str | Failure]:
    for argument in arguments:
        if os.path.isdir(argument):  # which, unlike Path's, has an answer for names that the system refuses
            yield from _or_reason(argument, _in_folder(argument, passed_over), "the folder holds no images")
        elif is_pattern(argument):
            yield from _or_reason(argument, _matches(argument), "no file matches the pattern")
        else:
            yield argument


def _each_once(items: Iterator[str | Failure]) -> Iterator[str | Failure]:
    """The items without the paths that came before; `./a.jpg` and `a.jpg` are one."""
    seen = set()
    for item in items:
        if isinstance(item, str):
            path = Path(item)  # which keeps `..`: behind a link it leads elsewhere
            if path in seen:
                continue
            seen.add(path)
        yield item


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


def _matches(pattern: str) -> Iterator[str]:
    return (path for path in sorted(set(_expanded(pattern))) if os.path.isfile(path))


def _expanded(pattern: str) -> Iterator[str]:
    """What a pattern means, as `glob.glob` has it, but for links that lead in circles: `**` enters each folder once."""
    parts = pattern.split(os.sep)  # noqa: PTH206  # names are given back as they were written
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    place = parts.index("**")
    head, rest = os.sep.join(parts[:place]), parts[place + 1 :]  # noqa: PTH118
    here = place == 0
    roots = glob.glob(head) if glob.has_magic(head) else [head or (os.curdir if here else os.sep)]
    for root in filter(os.path.isdir, roots):
        for where, names in walk(root):
            folder = where[2:] if here else where
            if rest:
                yield from _expanded(os.path.join(glob.escape(folder), *rest))  # noqa: PTH118
            else:
                yield from (os.path.join(folder, name) for name in names if not name.startswith("."))  # noqa: PTH118


def _in_folder(folder: str, passed_over: PassedOver | None) -> Iterator[str | Failure]:
    unread: list[Failure] = []

    def note(error: OSError) -> None:
        reason = ImageNotReadable(f"the folder {error.filename} cannot be read: {error.strerror}")
        unread.append(Failure(error.filename, reason))

    for where, names in walk(folder, note):
        for name in names:
            path = str(Path(where, name))
            if name.startswith(".") or (os.path.exists(path) and not os.path.isfile(path)):
                continue  # reading a pipe may wait for ever
            suffix = Path(name).suffix.lower()
            if suffix in IMAGE_SUFFIXES or (suffix not in RAW_SUFFIXES and _starts_like_image(path)):
                yield path
            elif passed_over is not None and suffix in RAW_SUFFIXES | OTHER_SUFFIXES:
                passed_over.note(path)
    yield from unread


def _starts_like_image(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return looks_like_image(file.read(64))
    except OSError:
        return False
