"""Turns to receive a message, whose size is not known before it is there."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from glass_rt.serve.refusals import Overloaded

PROMPT_S = 0.5  # in which a message is to be there where others wait, and all turns are taken
WAIT_S = 2.0  # for a turn
SHARE_OF_PROMPT = 4  # one turn of so many is for prompt messages, and at least one

T = TypeVar("T")


class Turns:
    """At most `count` messages are received at once.

    A stream that sends nothing holds its turn as one does whose message is long under way. So that both together never
    hold all of them, only the eldest `count - count / SHARE_OF_PROMPT` may take as long as they like. One of the others
    loses its turn where its message is not there within PROMPT_S and another call waits for one.

    Of those who wait, the connection with the fewest turns is served first, and then the one that waits longest: many
    calls of one connection do not hold up another's.
    """

    def __init__(self, count: int) -> None:
        self._count = max(2, count)
        self._patient = self._count - max(1, self._count // SHARE_OF_PROMPT)
        self._taken: list[_Turn] = []  # the eldest first
        self._waiting: dict[str, deque[asyncio.Future[_Turn]]] = {}

    async def receive(self, peer: str, message: Callable[[], Awaitable[T]]) -> T:
        """The message, received in a turn. Raises Overloaded where there is no turn, or it was lost."""
        turn = await self._turn(peer)
        receiving = asyncio.ensure_future(message())
        try:
            await asyncio.wait((receiving, turn.lost), return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                return receiving.result()
            raise Overloaded(
                f"the message was not there within {PROMPT_S:g} s, and others wait: try again later", retry_after_s=1
            )
        finally:
            receiving.cancel()
            self._release(turn)

    async def _turn(self, peer: str) -> _Turn:
        if len(self._taken) < self._count and not self._waiting:
            return self._take(peer)
        called: asyncio.Future[_Turn] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(peer, deque()).append(called)
        self._take_back()
        try:
            await asyncio.wait((called,), timeout=WAIT_S)
        except asyncio.CancelledError:
            if called.done():
                self._release(called.result())
            raise
        finally:
            if not called.done():
                self._forget(peer, called)
        if not called.done():
            raise Overloaded("as many messages as fit are being received: try again later", retry_after_s=1)
        return called.result()

    def _take(self, peer: str) -> _Turn:
        turn = _Turn(peer)
        self._taken.append(turn)
        return turn

    def _release(self, turn: _Turn) -> None:
        self._taken.remove(turn)
        self._serve_waiting()
        self._take_back()

    def _serve_waiting(self) -> None:
        """Gives free turns to those who wait; a connection that got one waits behind the others."""
        while self._waiting and len(self._taken) < self._count:
            held = Counter(turn.peer for turn in self._taken)
            peer = min(self._waiting, key=held.__getitem__)  # the first of several in the order of waiting
            calls = self._waiting.pop(peer)
            calls.popleft().set_result(self._take(peer))
            if calls:
                self._waiting[peer] = calls

    def _forget(self, peer: str, called: asyncio.Future[_Turn]) -> None:
        self._waiting[peer].remove(called)
        if not self._waiting[peer]:
            del self._waiting[peer]

    def _take_back(self) -> None:
        """Where some wait: ends the turn of one that is past its time, or looks again when the next one will be."""
        impatient = [turn for turn in self._taken[self._patient :] if not turn.lost.done()]
        if not self._waiting or not impatient:
            return
        loop = asyncio.get_running_loop()
        left_s = impatient[0].began + PROMPT_S - loop.time()
        if left_s <= 0:
            impatient[0].lost.set_result(None)
        else:
            loop.call_later(left_s, self._take_back)


class _Turn:
    def __init__(self, peer: str) -> None:
        self.peer = peer
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        self.lost: asyncio.Future[None] = loop.create_future()
