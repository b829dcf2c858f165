"""Paths for libraries that take text: file names may be any bytes, and need not be of the locale's encoding."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def utf8_path(path: Path) -> Iterator[str]:
    """Within the block, a path of `path` that can be encoded in UTF-8, where Linux offers one; else `path` itself.

    The file need not exist yet, but its folder must; its own name is not changed. Raises OSError.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        pass
    else:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        through = f"/proc/self/fd/{folder}"
        yield f"{through}/{path.name}" if os.path.isdir(through) else str(path)
    finally:
        os.close(folder)
