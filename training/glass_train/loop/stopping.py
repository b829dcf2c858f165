"""Ctrl-C and SIGTERM end a run after the step at work; a second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Request:
    """Whether somebody has asked the run to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def stop_requests() -> Iterator[Request]:
    """Within the block the first signal is noted in the request that it gives. Off the main thread: nothing is."""
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(_number: int, _frame: FrameType | None) -> None:
        if request.asked:
            raise KeyboardInterrupt
        request.asked = True

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
