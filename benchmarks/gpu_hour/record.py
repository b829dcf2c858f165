"""The figures of one step, on disk as soon as each is known: a step that dies keeps what it had found."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from glass_rt.backends.cuda.gpu import GpuError

_MOST_LINES = 6  # of a traceback that are kept


class Record:
    """Figures by name, in the JSON file `path`; every addition rewrites the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._figures: dict[str, Any] = {}
        self._began = monotonic()

    def add(self, name: str, figures: Any) -> None:
        """Keeps a figure: a number, text, a dataclass, or lists and dictionaries of such."""
        self._figures[name] = figures
        write_json(self._path, self._figures)
        print(f"[{monotonic() - self._began:6.1f} s] {name}", file=sys.stderr, flush=True)

    def part(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns, kept under `name`; an error is kept instead, and the step goes on.

        A lost context ends the step: nothing after it could work.
        """
        began = monotonic()
        try:
            found = work()
        except Exception as error:
            lines = traceback.format_exc().strip().splitlines()[-_MOST_LINES:]
            self.add(name, {"failed": f"{type(error).__name__}: {error}", "traceback": lines})
            if isinstance(error, GpuError) and error.lost:
                raise
            return None
        self.add(name, {"seconds": round(monotonic() - began, 2), "found": found})
        return found


def write_json(path: Path, content: Any) -> None:
    """Writes the file as a whole: a reader never sees a half."""
    beside = path.with_suffix(".writing")
    beside.write_text(json.dumps(content, indent=1, default=_plain))
    beside.replace(path)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
