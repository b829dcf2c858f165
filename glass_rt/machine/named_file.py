"""Files that users name, and standard input, read up to a bound: regular files and pipes, and no devices."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

Check = Callable[[bytes], object]

# Bytes of settings, keys, labels and records: far more than any that is meant as one.
MOST_OF_TEXT = 1 << 28
_CHUNK = 1 << 20
_FIRST = 1 << 12  # bytes by which a reader tells whether the rest is worth reading


def read_named(path: str | os.PathLike[str], most: int, check: Check = bool) -> bytes:
    """The content of a file or pipe. `check` gets its first bytes (4096, or all), and may raise before more is read.

    A pipe is waited for, as one that is written meanwhile must be; files of the system that give nothing now are not.
    Raises OSError, EFBIG among them for more than `most` bytes, and ValueError for names that no file can have.
    """
    descriptor = _opened(path)
    try:
        read = partial(os.read, descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return read_stream(read, most, check)
        if status.st_size > most:
            raise _too_large(most)
        check(os.pread(descriptor, _FIRST, 0))
        return _rest(read, most, status.st_size)
    finally:
        os.close(descriptor)


def read_named_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """The text of a file or pipe; raises OSError, for more than 256 MiB too, ValueError and UnicodeDecodeError."""
    return read_named(path, MOST_OF_TEXT).decode(encoding)


def read_stream(read: Callable[[int], bytes], most: int, check: Check = bool) -> bytes:
    """What `read(bytes)` gives until it gives nothing, with `most` and `check` as for `read_named`. Raises OSError."""
    first = b""
    while len(first) < _FIRST and (piece := read(_FIRST - len(first))):
        first += piece
    check(first)
    return first + _rest(read, most - len(first))


def _rest(read: Callable[[int], bytes], most: int, size: int = 0) -> bytes:
    """In one piece where `size` is right, so that the content is held once."""
    pieces, left = [], most
    while piece := read(max(_CHUNK, size + 1)):
        left -= len(piece)
        if left < 0:
            raise _too_large(most)
        pieces.append(piece)
    return b"".join(pieces)


def _opened(path: str | os.PathLike[str]) -> int:
    mode = Path(path).stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "is a device; expected a file")
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    if stat.S_ISREG(mode):  # files of /proc may have nothing to give for ever
        flags |= getattr(os, "O_NONBLOCK", 0)
    return os.open(path, flags)


def _too_large(most: int) -> OSError:
    return OSError(errno.EFBIG, f"it holds more than {most >> 20} MiB")
