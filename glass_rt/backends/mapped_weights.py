"""A file of weights mapped into memory, whose pages can be released.

OpenVINO copies weights into layouts of its own, when it compiles a model and when a batch size is first run, and keeps
the mapped file beside them: resident in full, and hardly read again.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glass_rt.machine.regular_file import RegularFile

_MAPS = Path("/proc/self/maps")
# Held while addresses are looked up and released, and while a library maps files or lets go of them: what lies at an
# address that was given to something else meanwhile would be lost.
MAPPINGS = threading.RLock()


class MappedWeights:
    """The bytes of a file, uint8 (N,), read from it as they are touched. Callers must not write to them.

    `array` keeps the mapping alive; a file that is open already may be closed. Raises OSError, or ValueError where the
    file is empty.
    """

    def __init__(self, source: Path | RegularFile) -> None:
        file = RegularFile.open(source) if isinstance(source, Path) else source
        # Private and writable, since OpenVINO takes no read-only array; without a write nothing is copied.
        self._mapped = mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_COPY)
        if file is not source:
            file.close()
        self.array: NDArray[np.uint8] = np.frombuffer(self._mapped, np.uint8)

    def give_back(self) -> None:
        """Releases the pages; the system reads them again when they are touched. Does something on Linux only."""
        if sys.platform == "linux":
            self._mapped.madvise(mmap.MADV_DONTNEED)


class LibraryMapping:
    """A file that a library has mapped, to read from alone, and whose pages can be released in the same way.

    `file` may be closed afterwards. Nothing happens where the system does not list mappings as Linux does.

    A mapping is the file's by device and inode, or by path, where a file system (overlay, btrfs) lists another device.
    An inode alone would not do: that of a file in memory may be a shared library's, whose relocated pages are listed as
    read-only, and without them the process ends.
    """

    def __init__(self, file: RegularFile) -> None:
        status = os.fstat(file.descriptor)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}" if os.name == "posix" else ""
        self._place = device, str(status.st_ino)
        path = file.library_path
        self._path = None if path is None else str(Path(path).readlink())

    def give_back(self) -> None:
        """Releases the pages; the system reads them again when they are touched."""
        with MAPPINGS:
            for start, end in self._ranges():
                ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)

    def _ranges(self) -> list[tuple[int, int]]:
        """Addresses at which the file is mapped. What may be written there is passed over: it would be lost."""
        if sys.platform != "linux":
            return []
        found = []
        for line in _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            fields = line.split(maxsplit=5)
            if (
                len(fields) == 6
                and fields[1].startswith("r--")
                and ((fields[3], fields[4]) == self._place or fields[5] == self._path)
            ):
                start, _, end = fields[0].partition("-")
                found.append((int(start, 16), int(end, 16)))
        return found
