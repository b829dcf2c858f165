"""Ctrl-C while nothing has begun that would have to be finished: the process ends at once."""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130  # the exit code


def leave(_number: int, _frame: FrameType | None) -> None:
    """A handler of SIGINT that says so and ends the process.

    KeyboardInterrupt would not do while modules are imported: native ones swallow it, or make other errors of it.
    """
    try:
        os.write(2, b"interrupted\n")
    finally:
        os._exit(INTERRUPTED)


def leave_on_interrupt() -> None:
    """From now on Ctrl-C ends the process at once; to be called by the main thread."""
    signal.signal(signal.SIGINT, leave)
