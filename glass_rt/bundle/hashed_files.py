"""Large files that this process has hashed already, each held open, so that the same content is not hashed twice.

A descriptor that is held keeps its file's number from being given to another file, and the system notes the time of
every change: a file of the same number, size and times has the content that was hashed. Bundles that are pinned do not
rely on that (see `glass_rt.bundle.checked_files`).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from functools import cache
from time import time_ns
from typing import TypeAlias

from glass_rt.machine.regular_file import RegularFile

SMALLEST = 1 << 20  # bytes; smaller files are hashed in less than a millisecond
MOST_HELD = 16  # files, the last ones used
# A file that was changed so shortly before it was hashed may be changed again without the times that are noted, which
# some file systems round to two seconds, showing it.
SETTLED_NS = 3_000_000_000

_Identity: TypeAlias = tuple[int, ...]


class HashedFiles:
    """SHA-256 by file, for files that are held open here. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[_Identity, tuple[RegularFile, str]] = OrderedDict()

    def digest(self, file: RegularFile) -> str | None:
        """What this very file was hashed to, where it has not changed since; else None."""
        identity = _identity(os.fstat(file.descriptor))
        with self._lock:
            self._let_go_of_deleted()
            if identity not in self._held:
                return None
            self._held.move_to_end(identity)
            return self._held[identity][1]

    def note(self, file: RegularFile, before: os.stat_result, digest: str) -> None:
        """Holds a file that was hashed; `before`: its status before the first byte was read."""
        status = os.fstat(file.descriptor)
        unchanged = _identity(status) == _identity(before)
        changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
        if os.name != "posix" or not unchanged or status.st_size < SMALLEST or time_ns() - changed_ns < SETTLED_NS:
            return
        with self._lock:
            if _identity(status) not in self._held:
                self._held[_identity(status)] = RegularFile(file.path, os.dup(file.descriptor)), digest
            while len(self._held) > MOST_HELD:
                self._held.popitem(last=False)[1][0].close()

    def _let_go_of_deleted(self) -> None:
        """Their space on disk is given back once they are closed."""
        for identity, (file, _) in list(self._held.items()):
            if os.fstat(file.descriptor).st_nlink == 0:
                file.close()
                del self._held[identity]


@cache
def hashed_files() -> HashedFiles:
    """Those of this process: what a file holds is the same for all who open it."""
    return HashedFiles()


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
