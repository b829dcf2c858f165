"""The server says that it listens when clients are let in, and not before."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from pathlib import Path

import pytest

from glass_rt.detector import Detector
from glass_rt.serve import server
from glass_rt.serve.app import create_app
from glass_rt.serve.metrics import Metrics
from glass_rt.serve.service import Service
from glass_rt.serve.settings import ServerSettings
from tests.bench_zoo import write_bundle


class Client(logging.Handler):
    """Connects as soon as the server says that it listens."""

    def __init__(self, address: tuple[str, int], stopping: asyncio.Event) -> None:
        super().__init__()
        self._address = address
        self._stopping = stopping
        self.refusals: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "listening":
            with socket.socket() as client:
                self.refusals.append(client.connect_ex(self._address))
            self._stopping.set()


def test_clients_are_let_in_when_the_server_says_that_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bundle(tmp_path / "bundle")
    monkeypatch.setattr(server.log, "level", logging.INFO)

    async def serve() -> list[int]:
        stopping = asyncio.Event()
        service = Service(partial(Detector.open, folder), ServerSettings(), Metrics())
        listener = server.bind("127.0.0.1", 0)
        client = Client(listener.getsockname(), stopping)
        server.log.addHandler(client)
        try:
            assert await server.serve(service, create_app(service), listener, stopping=stopping)
        finally:
            server.log.removeHandler(client)
        return client.refusals

    assert asyncio.run(serve()) == [0]
