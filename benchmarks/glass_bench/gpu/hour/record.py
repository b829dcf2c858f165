"""The figures of one step, on disk as soon as each is known: a step that dies keeps what it had found."""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from glass_rt.backends.cuda.gpu import GpuError

_MOST_LINES = 6  # of a traceback that are kept


class LeftOut(Exception):
    """A part that this machine cannot run, for want of a package, a tool or a kind of card: says which."""


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

        So is the reason why a part is left out. A lost context ends the step: nothing after it could work.
        """
        began = monotonic()
        try:
            found = work()
        except LeftOut as why:
            self.add(name, {"left out": str(why)})
            return None
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
    beside.write_text(json.dumps(_finite(json.loads(json.dumps(content, default=_plain))), indent=1) + "\n")
    beside.replace(path)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(below) for key, below in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
