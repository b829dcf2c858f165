"""Turns to receive a message: who gets one, and who loses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from glass_rt.serve.oip import turns as module
from glass_rt.serve.oip.turns import Turns
from glass_rt.serve.refusals import Overloaded

PROMPT_S, WAIT_S = 0.05, 0.3


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROMPT_S", PROMPT_S)
    monkeypatch.setattr(module, "WAIT_S", WAIT_S)


async def never() -> str:
    await asyncio.Event().wait()
    return ""


def after(seconds: float) -> Callable[[], Awaitable[str]]:
    async def message() -> str:
        await asyncio.sleep(seconds)
        return "message"

    return message


@pytest.mark.parametrize(
    ("count", "idle", "lost"),
    [
        (8, 5, 0),
        (8, 8, 1),  # there was one left until then
        (8, 7, 0),
        (2, 2, 1),
        (1, 2, 1),  # which is two: one could not be prompt
        (16, 16, 1),
    ],
)
@pytest.mark.parametrize("peer", ["the same", "another"])
def test_idle_streams_leave_a_turn_for_prompt_messages(count: int, idle: int, lost: int, peer: str) -> None:
    async def run() -> None:
        turns = Turns(count)
        streams = [asyncio.ensure_future(turns.receive("the same", never)) for _ in range(idle)]
        await asyncio.sleep(0)
        for _ in range(5):
            assert await turns.receive(peer, after(0)) == "message"
        ended = [stream for stream in streams if stream.done()]
        assert len(ended) == lost
        assert all(isinstance(stream.exception(), Overloaded) for stream in ended)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        assert await turns.receive(peer, after(0)) == "message"

    asyncio.run(run())


def test_messages_that_take_their_time_arrive_where_nobody_waits() -> None:
    async def run() -> None:
        turns = Turns(8)
        slow = [turns.receive(str(number), after(4 * PROMPT_S)) for number in range(8)]
        assert await asyncio.gather(*slow) == ["message"] * 8

    asyncio.run(run())


def test_the_eldest_arrive_whoever_waits() -> None:
    async def run() -> None:
        turns = Turns(8)
        slow = [asyncio.ensure_future(turns.receive(str(number), after(4 * PROMPT_S))) for number in range(20)]
        results = await asyncio.gather(*slow, return_exceptions=True)
        assert results[:6] == ["message"] * 6
        assert {type(result) for result in results} == {str, Overloaded}

    asyncio.run(run())


def test_many_calls_of_one_connection_do_not_hold_up_another() -> None:
    async def run() -> None:
        turns = Turns(8)
        flood = [asyncio.ensure_future(turns.receive("flood", never)) for _ in range(200)]
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        for _ in range(5):
            assert await turns.receive("another", after(0)) == "message"
        assert asyncio.get_running_loop().time() - began < 5 * 4 * PROMPT_S
        for call in flood:
            call.cancel()
        await asyncio.gather(*flood, return_exceptions=True)

    asyncio.run(run())


def test_calls_that_are_cancelled_give_their_turns_back() -> None:
    async def run() -> None:
        turns = Turns(4)
        for step in range(60):
            calls = [asyncio.ensure_future(turns.receive(str(n % 3), never)) for n in range(10)]
            await asyncio.sleep(step % 4 * PROMPT_S / 3)
            for call in calls:
                call.cancel()
                if step % 2:
                    await asyncio.sleep(0)
            await asyncio.gather(*calls, return_exceptions=True)
        assert await asyncio.gather(*[turns.receive("", after(0)) for _ in range(20)]) == ["message"] * 20

    asyncio.run(run())


def test_an_error_of_receiving_is_the_callers() -> None:
    async def fail() -> str:
        raise ConnectionResetError

    async def run() -> None:
        turns = Turns(2)
        for _ in range(5):
            with pytest.raises(ConnectionResetError):
                await turns.receive("", fail)

    asyncio.run(run())
