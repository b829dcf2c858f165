"""What vendors' libraries write to stderr by themselves, past Python."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_LISTENING = threading.RLock()  # of two listeners at once, the later would put back the earlier one's file


@contextmanager
def library_words(lines: list[str]) -> Iterator[None]:
    """Adds to `lines`, when the block is left, what was written to descriptor 2 in it; nothing of that is shown.

    What other threads write meanwhile is among them, so the block should be short; a second thread's block waits for
    the first one's end. Where there is no descriptor 2, or no folder for a file, nothing is added.
    """
    with _LISTENING:
        heard = _file()
        if heard is None:
            yield
            return
        with heard:
            before = os.dup(2)
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(heard.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(before, 2)
                os.close(before)
                heard.seek(0)
                lines += [line for line in heard.read().decode(errors="replace").splitlines() if line.strip()]


def _file() -> IO[bytes] | None:
    """A file in place of descriptor 2; None where that is closed, or there is no place for one."""
    try:
        os.fstat(2)
        return tempfile.TemporaryFile()
    except OSError:
        return None
