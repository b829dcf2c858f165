"""One line on a terminal that says how far a long run is."""

from __future__ import annotations

from time import perf_counter
from typing import TextIO


class ProgressLine:
    """Counts results; redraws itself at most ten times a second, and only on a terminal."""

    def __init__(self, stream: TextIO | None, total: int | None) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._total = total
        self._start = self._drawn = perf_counter()
        self._done = 0

    def step(self, failed: int) -> None:
        """One more result; `failed` of all so far are failures."""
        self._done += 1
        now = perf_counter()
        if self._stream is None or now - self._drawn < 0.1:
            return
        self._drawn = now
        rate = self._done / (now - self._start)
        parts = [f"{self._done}" + (f"/{self._total}" if self._total else ""), f"{rate:.1f} images/s"]
        if self._total:
            minutes, seconds = divmod(round((self._total - self._done) / rate), 60)
            parts.append(f"{minutes}:{seconds:02d} left")
        if failed:
            parts.append(f"{failed} failed")
        self._stream.write("\r\x1b[K" + "  ".join(parts))
        self._stream.flush()

    def clear(self) -> None:
        """Removes the line."""
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
