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
        self._held, self._kept = 0, 0
        self._changed = threading.Condition()

    @property
    def held(self) -> int:
        """Bytes that are counted as held now."""
        return self._held

    @contextmanager
    def hold(self, size: int, limit: int, room: Callable[[], int] | None = None, *, kept: int = 0) -> Iterator[None]:
        """Holds `size` bytes while the block runs, which begins once all that run one hold at most `limit`.

        `room`: the bytes that all together may hold by what this machine has left, asked for each time. `kept`: of
        `size`, what goes on being held after a block that ends well, until `let_go`; it counts for the room alone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._fits(size, limit, room))
            self._held += size
        try:
            yield
        except BaseException:
            self._change(-size, 0)
            raise
        self._change(kept - size, kept)

    def let_go(self, kept: int) -> None:
        """Bytes that `hold` has kept are held no more."""
        self._change(-kept, -kept)

    def _fits(self, size: int, limit: int, room: Callable[[], int] | None) -> bool:
        running = self._held - self._kept
        return (running == 0 or running + size <= limit) and (room is None or self._held + size <= room())

    def _change(self, held: int, kept: int) -> None:
        with self._changed:
            self._held += held
            self._kept += kept
            self._changed.notify_all()
