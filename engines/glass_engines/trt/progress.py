"""The vendor's builder while it works: its progress, and how Ctrl-C stops it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

from glass_engines.trt.stream import return_freed_memory


class Cancellation:
    """Whether the user asked to stop. An exception may not pass through the vendor's C++, so Ctrl-C sets a flag."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def on_interrupt(self) -> Iterator[None]:
        """Ctrl-C sets the flag while the block runs, and becomes KeyboardInterrupt at its end."""
        if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
            yield
            return

        def ask(_number: int, _frame: FrameType | None) -> None:
            self.asked = True

        previous = signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
        if self.asked:
            raise KeyboardInterrupt


def progress_monitor(trt: Any, cancellation: Cancellation, stream: TextIO | None = None) -> Any:
    """The vendor's IProgressMonitor: prints the outermost phases on a terminal, and says whether to go on.

    Phases nest; a phase without a parent is one of the whole build.
    """
    out = stream or sys.stderr
    visible = out.isatty()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base is only known at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps = dict[str, int]()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if visible and phase_name in self.steps:
                print(
                    f"\r    {phase_name}: {step + 1} of {self.steps[phase_name]} \033[K", end="", file=out, flush=True
                )
            return not cancellation.asked

        def phase_finish(self, phase_name: str) -> None:
            return_freed_memory()
            if visible and self.steps.pop(phase_name, None) is not None:
                print("\r\033[K", end="", file=out, flush=True)

    return Monitor()
