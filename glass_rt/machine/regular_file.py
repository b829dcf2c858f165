"""Regular files of a folder that is not trusted, opened without waiting, and read through one descriptor.

A named pipe, a device, a socket or a folder in the place of a file is an error at once: none of them is waited for.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

CHUNK = 1 << 20
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class RegularFile:
    """An open regular file: what takes its name later does not change what is read here.

    `path` is for messages. `close` gives the descriptor back; the garbage collector does so too.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.close = weakref.finalize(self, os.close, descriptor)

    @classmethod
    def open(cls, path: Path, name: str | None = None, folder: int | None = None) -> RegularFile:
        """Opens `path`; or `name` in the folder that the descriptor `folder` is of, with `path` for messages alone.

        Links are followed. Raises OSError, also for what is no regular file.
        """
        place: Path | str = path if name is None or folder is None else name
        try:
            _check_kind(os.stat(place, dir_fd=folder).st_mode)  # before opening, which a device may act upon
            descriptor = os.open(place, _FLAGS, dir_fd=folder)
        except ValueError:  # a NUL, or a character that no file name has
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
        file = cls(path, descriptor)
        try:
            _check_kind(os.fstat(descriptor).st_mode)
        except OSError:
            file.close()
            raise
        return file

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self.descriptor).st_size

    @property
    def library_path(self) -> str | None:
        """A path by which a library opens this very file, for as long as it is open here; None where there is none."""
        path = f"/proc/self/fd/{self.descriptor}"
        return path if sys.platform == "linux" and os.path.exists(path) else None

    def chunks(self, most: int, size: int = CHUNK) -> Iterator[bytes]:
        """The content in pieces of `size` bytes, from the start, up to `most` bytes."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        while most > 0 and (chunk := os.read(self.descriptor, min(size, most))):
            most -= len(chunk)
            yield chunk

    def read(self, most: int) -> bytes:
        """The content, up to `most` bytes; in one piece, where the file does not grow meanwhile, so held once."""
        return b"".join(self.chunks(most, max(CHUNK, self.size)))

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, or what there is of them."""
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        return os.read(self.descriptor, size)


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises OSError."""
    file = RegularFile.open(path)
    try:
        content = file.read(most + 1)
    finally:
        file.close()
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most} bytes", str(path))
    return content


def _check_kind(mode: int) -> None:
    for is_kind, words in _KINDS:
        if is_kind(mode):
            raise OSError(errno.EINVAL, f"is {words}; expected a file")
