"""A file of weights mapped into memory, whose pages can be released.

OpenVINO copies weights into layouts of its own, when it compiles a model and when a batch size is first run, and keeps
the mapped file beside them: resident in full, and hardly read again.
"""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glass_rt.machine.regular_file import RegularFile


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
