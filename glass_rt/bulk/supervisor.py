"""Judging in a process that may die: what an image does to it costs that image only.

A decoder that crashes takes its whole process along, so the process that decodes must not be the one that holds the
job. Here the *whole* detector lives in the child, engines included, rather than decoding alone:
- verdicts are `infer`'s by construction, since the same code runs, and no pixels cross a process border: paths (or
  encoded bytes) go over, verdicts come back;
- a crash costs the opening of a detector, seconds for a thing that happens rarely.

Who is guilty: all images that were under way when the child died are judged again, each alone. One is blamed only when
a fresh child, which has just judged a test picture, dies of it (or fails as no image can make it fail) before it was
given anything else. So an engine that fails, a full memory or a `kill` from outside is not laid at an image's door: the
first raises, the others pass.
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

from glass_rt.bulk.messages import Answer, Opening, Ready, Refused, Task, Unreadable, error_of
from glass_rt.bulk.python_process import start_python
from glass_rt.errors import BackendError, ImageLethal
from glass_rt.results.verdict import Failure

STALL_S = 600.0  # without any answer, after which a child counts as hung
_OPENING_S = 1800.0  # likewise, while it opens the detector; a first opening may include a parity gate
_NOT_OF_THE_IMAGE = ("backend", "unexpected")  # kinds of failure that a fresh child may not have
_KEPT_ANSWERS = 8  # windows; answers that wait for the one before them
Result: TypeAlias = dict[str, Any]
Source: TypeAlias = str | bytes | Unreadable


@dataclass(frozen=True)
class Request:
    """One image: a path on this machine, encoded bytes, or either of them to come. The future never raises."""

    source: Source | Future[Source]

    def get(self) -> Source:
        """What to judge, waited for."""
        return self.source.result() if isinstance(self.source, Future) else self.source


class ChildDied(Exception):
    """The child is gone, and why, as the end of a sentence about it."""


class Guard:
    """A detector in a child process, started when it is needed and again when it died. For one thread."""

    def __init__(self, opening: Opening, *, stall_s: float = STALL_S) -> None:
        self._opening = opening
        self._stall_s = stall_s
        self._child: _Child | None = None

    @property
    def engine(self) -> dict[str, str]:
        """The `engine` object of the detector's verdicts. Raises GlassError where it cannot be opened."""
        return self._opened().engine

    @property
    def pid(self) -> int | None:
        """The child's process, or None where none runs."""
        return None if self._child is None else self._child.pid

    def judge(self, requests: Iterable[Request]) -> Iterator[Result]:
        """The JSON form of each image's verdict or failure, in order.

        Requests are taken ahead of the results by what keeps the child busy, on the calling thread. Raises GlassError
        where the detector cannot be opened or fails on a test picture.
        """
        numbered = enumerate(requests)
        under_way: dict[int, Request] = {}
        found: dict[int, Result] = {}
        taken = given = 0
        exhausted = False
        try:
            while True:
                child = self._opened()
                while not exhausted and len(under_way) < child.window and taken - given < _KEPT_ANSWERS * child.window:
                    number, request = next(numbered, (-1, None))
                    if request is None:
                        exhausted = True
                        break
                    taken = number + 1
                    under_way[number] = request
                    child.submit(number, request)
                if under_way:
                    found |= self._some_answers(child, under_way)
                for number in found:
                    under_way.pop(number, None)
                while given in found:
                    yield found.pop(given)
                    given += 1
                if exhausted and not under_way:
                    return
        finally:
            if under_way:  # given up half-way: the answers to come belong to nobody
                self.close()

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _some_answers(self, child: _Child, under_way: dict[int, Request]) -> dict[int, Result]:
        """The next answer, or where the child died or is ill, those of all images under way."""
        try:
            answer = child.receive(self._stall_s)
        except ChildDied:
            self.close()
        else:
            if not _is_ill(answer.result):
                return {answer.number: answer.result}
            self.close()
        return {number: self._judge_alone(request) for number, request in under_way.items()}

    def _judge_alone(self, request: Request) -> Result:
        """The result of one image with no other under way; blamed on the image only if a fresh child gave it."""
        while True:
            fresh = self._child is None
            child = self._opened()
            child.submit(0, request)
            try:
                result = child.receive(self._stall_s).result
            except ChildDied as death:
                result = Failure(None, ImageLethal(f"the process that judged this image alone {death}")).to_json()
            else:
                if not _is_ill(result):
                    return result
            self.close()
            if fresh:
                return result

    def _opened(self) -> _Child:
        if self._child is None:
            try:
                self._child = _Child(self._opening)
            except ChildDied:  # once may be chance, or somebody's memory
                try:
                    self._child = _Child(self._opening)
                except ChildDied as death:
                    raise BackendError(
                        f"the detector's process {death} while it opened the engine and judged a test picture, twice; "
                        "`glass-rt verify` runs the same engine by itself"
                    ) from None
        return self._child


class _Child:
    """One child process and the thread that speaks to it. Raises ChildDied, GlassError where it cannot be opened."""

    def __init__(self, opening: Opening) -> None:
        self._process, self._connection = start_python("glass_rt.bulk.judge_process")
        self._outgoing: queue.SimpleQueue[tuple[int, Request] | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send, name="glass-rt bulk send", daemon=True)
        try:
            with suppress(OSError):
                self._connection.send(opening)
            greeting = self._next(_OPENING_S)
            if isinstance(greeting, Refused):
                raise error_of(greeting.message, greeting.kind)
        except BaseException:
            self._connection.close()
            self._process.kill()
            self._process.wait()
            raise
        assert isinstance(greeting, Ready)
        self.window, self.engine, self.pid = greeting.window, greeting.engine, self._process.pid
        self._sender.start()

    def submit(self, number: int, request: Request) -> None:
        """Begins to judge an image; never waits."""
        self._outgoing.put((number, request))

    def receive(self, stall_s: float) -> Answer:
        """The next answer, whichever image it is of."""
        answer = self._next(stall_s)
        assert isinstance(answer, Answer)
        return answer

    def close(self) -> None:
        """Ends the process at once: it owns nothing that outlives it."""
        self._process.kill()
        self._process.wait()
        self._outgoing.put(None)
        self._sender.join()
        self._connection.close()

    def _next(self, stall_s: float) -> object:
        try:
            if not self._connection.poll(stall_s):
                raise ChildDied(f"gave no answer for {stall_s:g} s and was stopped")
            return self._connection.recv()
        except (EOFError, OSError):
            raise ChildDied(_cause(self._process)) from None

    def _send(self) -> None:
        with suppress(OSError):  # the child is gone, which `receive` notices
            while (item := self._outgoing.get()) is not None:
                number, request = item
                self._connection.send(Task(number, request.get()))


def _is_ill(result: Result) -> bool:
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
