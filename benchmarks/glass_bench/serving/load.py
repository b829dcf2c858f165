"""Requests to a server: from a number of clients that wait for their responses, or at a rate, responses or not.

    python -m glass_bench.serving.load PLAN RESULT

A process of its own: PLAN and RESULT are JSON files, as `LoadPlan` and `Exchange` say. Every response is kept, so that
each can be checked afterwards.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from time import perf_counter

from glass_bench.serving.http_client import Connection, ConnectionLost, HttpResponse, post

LOST = 0  # in place of a status: there was no response
WAIT_S = 60.0  # for responses still due at the end


@dataclass(frozen=True)
class LoadPlan:
    """`clients` that each send the next image once they have their response, or `rate` requests a second (Poisson)."""

    host: str
    port: int
    images: tuple[str, ...]  # files, sent in turn
    seconds: float
    clients: int = 0
    rate: float = 0.0
    seed: int = 606


@dataclass(frozen=True)
class Exchange:
    """One request and its response: which image, when it was due, and how long it took (seconds, from the start)."""

    image: int
    due_s: float
    took_s: float
    status: int
    body: str


def run_load(plan: LoadPlan) -> list[Exchange]:
    """All exchanges of a plan, on an event loop of this process."""
    return asyncio.run(_Load(plan).run())


class _Load:
    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._requests = [post("/v1/verdict", plan.host, Path(path).read_bytes()) for path in plan.images]
        self._idle: list[Connection] = []
        self._done: list[Exchange] = []
        self._began = 0.0

    async def run(self) -> list[Exchange]:
        self._began = perf_counter()
        sending = self._client if self._plan.clients else None
        if sending is not None:
            await asyncio.gather(*(sending(number) for number in range(self._plan.clients)))
        else:
            await self._arrivals()
        for connection in self._idle:
            connection.close()
        return self._done

    async def _client(self, number: int) -> None:
        image = number
        while perf_counter() - self._began < self._plan.seconds:
            await self._exchange(image % len(self._requests), perf_counter() - self._began)
            image += 1

    async def _arrivals(self) -> None:
        random = Random(self._plan.seed)
        due = 0.0
        tasks: list[asyncio.Task[None]] = []
        while (due := due + random.expovariate(self._plan.rate)) < self._plan.seconds:
            await asyncio.sleep(max(0.0, self._began + due - perf_counter()))
            tasks.append(asyncio.create_task(self._exchange(len(tasks) % len(self._requests), due)))
        await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S)

    async def _exchange(self, image: int, due_s: float) -> None:
        """On an idle connection or a new one. Time counts from when the request was due, sent then or not."""
        reply = HttpResponse(LOST, b"")
        try:
            connection = await self._connection()
            reply = await connection.exchange(self._requests[image])
            self._idle.append(connection)
        except (ConnectionLost, OSError) as error:
            reply = HttpResponse(LOST, repr(error).encode())
        took_s = perf_counter() - self._began - due_s
        self._done.append(Exchange(image, due_s, took_s, reply.status, reply.body.decode()))

    async def _connection(self) -> Connection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
            connection.close()
        return await Connection.open(self._plan.host, self._plan.port)


def read_exchanges(path: Path) -> list[Exchange]:
    """What a load process has written."""
    return [Exchange(**values) for values in json.loads(path.read_text())]


def write_exchanges(path: Path, exchanges: Iterable[Exchange]) -> None:
    """The result file."""
    path.write_text(json.dumps([asdict(exchange) for exchange in exchanges]))


if __name__ == "__main__":
    values = json.loads(Path(sys.argv[1]).read_text())
    write_exchanges(Path(sys.argv[2]), run_load(LoadPlan(**{**values, "images": tuple(values["images"])})))
