"""The images of `infer` in their order: each is read once where it cannot be read twice."""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from threading import Event

from glass_rt.cli.streams import reason
from glass_rt.errors import ImageError, ImageNotReadable
from glass_rt.image.encoded import ImageSource, read_file, read_piped
from glass_rt.results.output import Output
from glass_rt.results.verdict import Failure, Verdict


class HeldImages:
    """The images that the file of --output holds already, counted as they are met; without a file there are none."""

    def __init__(self, journal: Output | None) -> None:
        self._journal = journal
        self.count = 0

    def lacks(self, item: str | Failure) -> bool:
        """Whether what was found is to be judged."""
        path = item if isinstance(item, str) else str(item.path)
        return self._lacks(self._journal is not None and self._journal.holds(path))

    def lacks_piped(self, data: bytes) -> bool:
        """Whether content of standard input is to be judged."""
        return self._lacks(self._journal is not None and self._journal.holds_piped(data))

    def _lacks(self, held: bool) -> bool:
        self.count += held
        return not held


class ImageSources:
    """Gives the sources of what was found, `-` for standard input among it, until `stopped` is set.

    With `keep`, pipes and devices are read here, and their bytes are kept until `result_and_bytes` was asked for the
    result that they led to.
    """

    def __init__(self, found: Iterable[str | Failure], held: HeldImages, stopped: Event, *, keep: bool) -> None:
        self._found = found
        self._held = held
        self._stopped = stopped
        self._keep = keep
        self._taken: deque[tuple[str | None, bytes | None]] = deque()

    def __iter__(self) -> Iterator[ImageSource | Failure]:
        for item in self._found:
            if self._stopped.is_set():
                return
            name = item if isinstance(item, str) else item.path
            source = self._read(item) if isinstance(item, str) else item
            if source is None:
                continue
            kept = source if self._keep and isinstance(source, bytes) else None
            self._taken.append((None if name == "-" else name, kept))
            yield source

    def result_and_bytes(self, result: Verdict | Failure) -> tuple[Verdict | Failure, bytes | None]:
        """The next result under its source's path, and the bytes of the source where they were kept."""
        path, data = self._taken.popleft()
        return replace(result, path=path), data

    def _read(self, item: str) -> str | bytes | Failure | None:
        """The source of one image; None for content of standard input that is held already."""
        try:
            if item == "-":
                data = _read_stdin()
                return data if self._held.lacks_piped(data) else None
            return read_file(item) if self._keep and _is_read_once(item) else item
        except ImageError as error:
            return Failure(None if item == "-" else item, error)


def _read_stdin() -> bytes:
    try:
        return read_piped(sys.stdin.buffer.read)
    except ImageError:
        raise
    except OSError as error:
        raise ImageNotReadable(f"standard input cannot be read: {reason(error)}") from error


def _is_read_once(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # Path has no answer for names that the system refuses
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
