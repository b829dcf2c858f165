"""The signals of a server process: SIGTERM and Ctrl-C stop it, SIGHUP lets it read again what it was started with."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Action = Callable[[], Coroutine[Any, Any, object]]


class OneAtATime:
    """Runs an action when it is asked to; however often that is meanwhile, once more afterwards."""

    def __init__(self, action: Action, stopping: asyncio.Event) -> None:
        self._action = action
        self._stopping = stopping
        self._running: asyncio.Task[None] | None = None
        self._again = False

    def ask(self) -> None:
        """Begins the action, or notes that it is to run again. Nothing begins once the server stops."""
        if self._running is not None:
            self._again = True
        elif not self._stopping.is_set():
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._again = False
                await self._action()
                if not self._again:
                    return
        finally:
            self._running = None


@contextmanager
def handled_signals(stopping: asyncio.Event, ready: asyncio.Event, on_hangup: Sequence[Action]) -> Iterator[None]:
    """Handles the process's signals on the running event loop while the block runs, and ignores them afterwards.

    SIGTERM and Ctrl-C set `stopping`. Ctrl-C raises KeyboardInterrupt where the server is not `ready`, or stops
    already. SIGHUP runs each of `on_hangup`, one of a kind at a time.
    """
    loop = asyncio.get_running_loop()
    actions = [OneAtATime(action, stopping) for action in on_hangup]

    def interrupt() -> None:
        if stopping.is_set() or not ready.is_set():
            raise KeyboardInterrupt
        stopping.set()

    def hang_up() -> None:
        for action in actions:
            action.ask()

    handlers: dict[str, Callable[[], None]] = {"SIGTERM": stopping.set, "SIGINT": interrupt, "SIGHUP": hang_up}
    known = [(getattr(signal, name), handle) for name, handle in handlers.items() if hasattr(signal, name)]
    try:
        for number, handle in known:
            loop.add_signal_handler(number, handle)
    except NotImplementedError:  # Windows: Ctrl-C ends the process without draining
        yield
        return
    try:
        yield
    finally:
        numbers = [number for number, _ in known]
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # the process is ending already, with its own exit code
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
