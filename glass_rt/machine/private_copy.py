"""A file's content in memory of this process alone, as a file that nobody can write."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from glass_rt.machine.regular_file import RegularFile


def private_copy(path: Path, chunks: Iterable[bytes]) -> RegularFile:
    """`chunks` as a file without a name; `path` is for messages.

    On Linux it is a memory file, sealed: its bytes count as this process's memory until it is closed and the last
    mapping of it is gone. Elsewhere it is a temporary file. Raises OSError, ENOMEM and ENOSPC among them.
    """
    file = RegularFile(path, _nameless())
    try:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(file.descriptor, rest) :]
        _seal(file.descriptor)
    except BaseException:
        file.close()
        raise
    return file


def _nameless() -> int:
    if sys.platform == "linux":
        return os.memfd_create("glass-rt", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:  # noqa: RET505 # for mypy, which sees one platform only
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


def _seal(descriptor: int) -> None:
    if sys.platform == "linux":
        import fcntl

        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
