"""Bytes as a file that lies in memory, for libraries that read files in a better way than bytes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


@cache
def can_hold_files() -> bool:
    """Whether this system has files in memory that a path leads to: Linux with /proc, unless a sandbox forbids them."""
    if sys.platform != "linux" or not hasattr(os, "memfd_create"):
        return False
    try:
        with file_in_memory() as path:
            return Path(path).is_file()
    except OSError:
        return False


@contextmanager
def file_in_memory(*parts: bytes | memoryview) -> Iterator[str]:
    """The path of a file that holds `parts`, for this process alone, until the block is left. It is on no disk."""
    descriptor = os.memfd_create("glass-rt image")
    try:
        for part in parts:
            left = memoryview(part)
            while left:
                left = left[os.write(descriptor, left) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
