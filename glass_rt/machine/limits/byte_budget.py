"""A limit on memory held at the same time, in bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class ByteBudget:
    """Threads wait here until what they are about to hold fits beside what the others hold.

    Something larger than the whole budget is let through when nothing else is held, so that it delays the others
    rather than never being done.
    """

    def __init__(self) -> None:
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size: int, limit: int, room: Callable[[], int] | None = None) -> Iterator[None]:
        """Holds `size` bytes while the block runs, which begins once all together hold at most `limit`.

        `room`: the bytes that all together may hold by what this machine has left, asked for each time.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._held == 0 or self._held + size <= (limit if room is None else min(limit, room()))
            )
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()
