"""What vendors' libraries write to stderr by themselves, past Python."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def library_words(lines: list[str]) -> Iterator[None]:
    """Adds to `lines`, when the block is left, what was written to descriptor 2 in it; nothing of that is shown.

    What other threads write meanwhile is among them, so the block should be short. Where there is no descriptor 2
    nothing is added.
    """
    try:
        before = os.dup(2)
    except OSError:
        yield
        return
    with tempfile.TemporaryFile() as heard:
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
