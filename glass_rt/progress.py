"""Progress of the long commands: named stages and how long each took, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import TextIO, TypeAlias

Stage: TypeAlias = Callable[[str], AbstractContextManager[None]]


@contextmanager
def silent(_name: str) -> Iterator[None]:
    """A stage that reports nothing."""
    yield


def reporter(stream: TextIO | None = None) -> Stage:
    """A stage that prints its name when it starts and its seconds when it ends, one line each stage."""

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        out = stream or sys.stderr
        print(f"  {name} ...", end="", file=out, flush=True)
        start = perf_counter()
        try:
            yield
        except BaseException:
            print(" failed", file=out, flush=True)
            raise
        print(f" {perf_counter() - start:.1f} s", file=out, flush=True)

    return stage
