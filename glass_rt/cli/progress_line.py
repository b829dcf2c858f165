"""One line that says how far a long run is."""

from __future__ import annotations

from time import perf_counter
from typing import TextIO

REDRAWN_S, REPEATED_S = 0.1, 30.0  # on a terminal, elsewhere


class ProgressLine:
    """Redraws itself on a terminal; elsewhere, where it is `logged`, it is a new line at most every half minute."""

    def __init__(self, stream: TextIO | None, *, logged: bool = False) -> None:
        self._terminal = stream is not None and stream.isatty()
        self._stream = stream if self._terminal or logged else None
        self._start = self._shown = perf_counter()

    def show(self, done: int, total: int | None, failed: int, before: int = 0) -> None:
        """`done` images of this run, of which `failed` could not be judged; `before` others of `total` were there."""
        now = perf_counter()
        if self._stream is None or now - self._shown < (REDRAWN_S if self._terminal else REPEATED_S):
            return
        self._shown = now
        rate = done / (now - self._start)
        parts = [f"{before + done}" + (f"/{total}" if total else ""), f"{rate:.1f} images/s"]
        if total and rate:
            minutes, seconds = divmod(round((total - before - done) / rate), 60)
            parts.append(f"{minutes}:{seconds:02d} left")
        if failed:
            parts.append(f"{failed} failed")
        text = "  ".join(parts)
        self._stream.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Removes the line from a terminal."""
        if self._stream is not None and self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
