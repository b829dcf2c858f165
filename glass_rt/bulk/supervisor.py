"""Supervision of a judge process: an image that kills the process costs its own verdict only.

A decoder that crashes ends its process, so decoding runs in another process than the job. The judge process holds the
*whole* detector, engines included:
- The same code as `infer`'s makes the verdicts, and no pixels cross the process border: paths or encoded bytes go in,
  verdicts come out.
- A crash costs the opening of a detector, which takes seconds and happens rarely.

When a judge process dies, the supervisor judges all images that were under way again, each alone. It blames an image
only where a fresh judge process, which has just judged a test picture, dies of it as its first image, or fails in a way
that no image can cause. So it blames no image for an engine that fails, a full memory or a `kill` from outside: the
first raises, the others pass at the second try.
"""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias

from glass_rt.bulk.messages import Opening, Ready, Refused, Task, TaskResult, Unreadable, error_of
from glass_rt.bulk.python_process import start_python
from glass_rt.errors import BackendError, ImageLethal
from glass_rt.results.verdict import Failure

STALL_S = 600.0  # without any result, after which a judge process counts as hung
_OPENING_S = 1800.0  # likewise, while it opens the detector; a first opening may include a parity check
_NOT_OF_THE_IMAGE = ("backend", "unexpected")  # kinds of failure that no image causes
_WINDOWS_AHEAD = 8  # results, in windows, that may wait for an earlier one
Result: TypeAlias = dict[str, Any]
Source: TypeAlias = str | bytes | Unreadable


@dataclass(frozen=True)
class JudgeRequest:
    """One image: a path on this machine, encoded bytes, or either of them to come. The future never raises."""

    source: Source | Future[Source]

    def get(self) -> Source:
        """What to judge; waits for it where it is still to come."""
        return self.source.result() if isinstance(self.source, Future) else self.source


class JudgeProcessDied(Exception):
    """The judge process has died; the message is the predicate of a sentence about it."""


class Supervisor:
    """Runs a detector in a judge process, which it starts when needed and again after it died. For one thread."""

    def __init__(self, opening: Opening, *, stall_s: float = STALL_S) -> None:
        self._opening = opening
        self._stall_s = stall_s
        self._running: _JudgeProcess | None = None

    @property
    def engine(self) -> dict[str, str]:
        """The `engine` object of the detector's verdicts. Raises GlassError where it cannot be opened."""
        return self._opened().engine

    @property
    def pid(self) -> int | None:
        """The judge process, or None where none runs."""
        return None if self._running is None else self._running.pid

    def judge(self, requests: Iterable[JudgeRequest]) -> Iterator[Result]:
        """The JSON form of each image's verdict or failure, in order.

        The calling thread takes as many requests ahead of the results as keep the judge process busy. Raises GlassError
        where the detector cannot be opened or fails on a test picture.
        """
        numbered = enumerate(requests)
        under_way: dict[int, JudgeRequest] = {}
        found: dict[int, Result] = {}
        taken = given = 0
        exhausted = False
        try:
            while True:
                process = self._opened()
                ahead = _WINDOWS_AHEAD * process.window
                while not exhausted and len(under_way) < process.window and taken - given < ahead:
                    number, request = next(numbered, (-1, None))
                    if request is None:
                        exhausted = True
                        break
                    taken = number + 1
                    under_way[number] = request
                    process.submit(number, request)
                if under_way:
                    found |= self._some_results(process, under_way)
                for number in found:
                    under_way.pop(number, None)
                while given in found:
                    yield found.pop(given)
                    given += 1
                if exhausted and not under_way:
                    return
        finally:
            if under_way:  # the caller stopped half-way: no later call may receive these results
                self.close()

    def close(self) -> None:
        """Ends the judge process."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _some_results(self, process: _JudgeProcess, under_way: dict[int, JudgeRequest]) -> dict[int, Result]:
        """The next result, or where the judge process died or failed, those of all images under way."""
        try:
            done = process.receive(self._stall_s)
        except JudgeProcessDied:
            self.close()
        else:
            if not _is_not_of_the_image(done.result):
                return {done.number: done.result}
            self.close()
        return {number: self._judge_alone(request) for number, request in under_way.items()}

    def _judge_alone(self, request: JudgeRequest) -> Result:
        """The result of one image with no other under way; a failure counts only from a fresh judge process."""
        while True:
            fresh = self._running is None
            process = self._opened()
            process.submit(0, request)
            try:
                result = process.receive(self._stall_s).result
            except JudgeProcessDied as death:
                result = Failure(None, ImageLethal(f"the process that judged this image alone {death}")).to_json()
            else:
                if not _is_not_of_the_image(result):
                    return result
            self.close()
            if fresh:
                return result

    def _opened(self) -> _JudgeProcess:
        if self._running is None:
            try:
                self._running = _JudgeProcess(self._opening)
            except JudgeProcessDied:  # once may be chance, or memory that another process used up
                try:
                    self._running = _JudgeProcess(self._opening)
                except JudgeProcessDied as death:
                    raise BackendError(
                        f"the detector's process {death} while it opened the engine and judged a test picture, twice; "
                        "`glass-rt verify` runs the same engine by itself"
                    ) from None
        return self._running


class _JudgeProcess:
    """One judge process and the thread that sends to it.

    Raises JudgeProcessDied, and GlassError where the detector cannot be opened.
    """

    def __init__(self, opening: Opening) -> None:
        self._process, self._connection = start_python("glass_rt.bulk.judge_process")
        self._outgoing: queue.SimpleQueue[tuple[int, JudgeRequest] | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send, name="glass-rt bulk send", daemon=True)
        try:
            with suppress(OSError):
                self._connection.send(opening)
            reply = self._next(_OPENING_S)
            if isinstance(reply, Refused):
                raise error_of(reply.message, reply.kind)
        except BaseException:
            self._connection.close()
            self._process.kill()
            self._process.wait()
            raise
        assert isinstance(reply, Ready)
        self.window, self.engine, self.pid = reply.window, reply.engine, self._process.pid
        self._sender.start()

    def submit(self, number: int, request: JudgeRequest) -> None:
        """Begins to judge an image; never waits."""
        self._outgoing.put((number, request))

    def receive(self, stall_s: float) -> TaskResult:
        """The next result, of any image under way."""
        result = self._next(stall_s)
        assert isinstance(result, TaskResult)
        return result

    def close(self) -> None:
        """Kills the process: it holds nothing that must be saved."""
        self._process.kill()
        self._process.wait()
        self._outgoing.put(None)
        self._sender.join()
        self._connection.close()

    def _next(self, stall_s: float) -> object:
        try:
            if not self._connection.poll(stall_s):
                raise JudgeProcessDied(f"gave no answer for {stall_s:g} s and was stopped")
            return self._connection.recv()
        except (EOFError, OSError):
            raise JudgeProcessDied(_cause(self._process)) from None

    def _send(self) -> None:
        with suppress(OSError):  # the judge process has died, which `receive` notices
            while (item := self._outgoing.get()) is not None:
                number, request = item
                self._connection.send(Task(number, request.get()))


def _is_not_of_the_image(result: Result) -> bool:
    return "error" in result and result["error"]["kind"] in _NOT_OF_THE_IMAGE


def _cause(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        return "fell silent"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
