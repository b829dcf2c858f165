"""What vendors' libraries write to stderr by themselves, past Python."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def library_words() -> Iterator[list[str]]:
    """The lines that are written to descriptor 2 in the block, there once it is left; nothing of them is shown.

    What other threads write meanwhile is among them, so the block should be short. Where there is no descriptor 2 the
    list stays empty.
    """
    lines: list[str] = []
    try:
        before = os.dup(2)
    except OSError:
        yield lines
        return
    with tempfile.TemporaryFile() as heard:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(heard.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(before, 2)
            os.close(before)
            heard.seek(0)
            lines += [line for line in heard.read().decode(errors="replace").splitlines() if line.strip()]
