"""Servers for tests: in this process, with planted faults, and as the command that users start."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np

from glass_rt import Detector
from glass_rt.backends import Backend
from glass_rt.backends.base import Array, TensorSpec
from glass_rt.bundle.bundle import Bundle
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.options import RunOptions
from glass_rt.results.verdict import Verdict
from glass_rt.serve.app import create_app
from glass_rt.serve.metrics import Metrics
from glass_rt.serve.server import bind, serve
from glass_rt.serve.service import Service
from glass_rt.serve.settings import ServerSettings

VERDICT = "/v1/verdict"
PATIENCE_S = 60.0
UNHURRIED_S = 300.0  # a deadline that even a busy machine meets


@dataclass(frozen=True)
class HttpResponse:
    """A whole response; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Address:
    """A server that takes requests."""

    port: int

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, headers: Mapping[str, str] = {}
    ) -> HttpResponse:
        connection = self.connect()
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] = {}) -> HttpResponse:
        return self.ask("GET", path, None, headers)

    def post(self, body: bytes | Iterator[bytes], query: str = "", headers: Mapping[str, str] = {}) -> HttpResponse:
        return self.ask("POST", VERDICT + query, body, headers)

    def figure(self, name: str) -> float:
        """A metric's value, by its name and labels as in the exposition."""
        lines = self.get("/metrics").body.decode().splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.rsplit(" ", 1)[0] == name), 0.0)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | Iterator[bytes] | None = None,
    headers: Mapping[str, str] = {},
) -> HttpResponse:
    connection.request(method, path, body, dict(headers))
    response = connection.getresponse()
    return HttpResponse(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


class Here(Address):
    """A server in a thread of this process."""

    service: Service
    loop: asyncio.AbstractEventLoop

    def __init__(self, port: int) -> None:
        self.port = port


@contextmanager
def serving(open_detector: Callable[[], Detector], settings: ServerSettings | None = None) -> Iterator[Here]:
    """Serves on a free port while the block runs."""
    listener = bind("127.0.0.1", 0)
    here = Here(listener.getsockname()[1])
    control: dict[str, asyncio.Event] = {}
    outcome: list[bool | BaseException] = []

    async def main() -> bool:
        here.service = Service(open_detector, settings or ServerSettings(deadline_s=UNHURRIED_S), Metrics())
        here.loop = asyncio.get_running_loop()
        control["stopping"] = asyncio.Event()
        return await serve(here.service, create_app(here.service), listener, stopping=control["stopping"])

    def run() -> None:
        try:
            outcome.append(asyncio.run(main()))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: bool(outcome) or reachable(here))
        assert not outcome, outcome
        yield here
    finally:
        if not outcome:
            here.loop.call_soon_threadsafe(control["stopping"].set)
        thread.join(PATIENCE_S)
    assert outcome == [True], "every request that was under way was finished"


class Process(Address):
    """`glass-rt serve` in a process of its own. `grpc_port` is None where it has none."""

    grpc_port: int | None = None

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def log(self) -> list[dict[str, Any]]:
        """The JSON lines on its stderr; libjpeg and libpng write others there by themselves, of damaged files."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def text(self) -> str:
        """All that is on its stderr, remarks of decoders among it."""
        return self._log.read_text()

    @property
    def http(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def peak_bytes(self) -> int:
        """The most memory it has had."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
        raise AssertionError("VmHWM is not told")


@contextmanager
def serve_process(
    engine: Path, folder: Path, *options: str, program: Sequence[str] = ("-m", "glass_rt")
) -> Iterator[Process]:
    """Starts the command on a free port and waits until it listens. `program`: Python's arguments that run the command line."""
    log = folder / "serve.log"
    command = [sys.executable, *program, "serve", "--engine", str(engine), "--port", "0"]
    command += ["--deadline", str(UNHURRIED_S), *options]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "2"})
    server = Process(process, log)
    try:
        wait_until(lambda: process.poll() is not None or b'"url"' in log.read_bytes())
        assert process.poll() is None, log.read_text()
        server.port = next(int(line["url"].rsplit(":")[-1]) for line in server.log() if "url" in line)
        server.grpc_port = next((int(line["grpc"].rsplit(":")[-1]) for line in server.log() if "grpc" in line), None)
        wait_until(lambda: reachable(server))
        yield server
    finally:
        process.kill()
        process.wait()


def reachable(server: Address) -> bool:
    try:
        return server.get("/readyz").status == 200
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; fails where it does not hold in time."""
    until = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < until, "waited in vain"
        sleep(0.02)


class PlantedEngine:
    """A real engine that can be held up, and made to fail."""

    def __init__(self, engine: Backend) -> None:
        self._engine = engine
        self.failures: list[Exception] = []  # raised by the next runs, one each
        self.always: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.rows = 0  # views that were asked of it
        self.closed = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._engine.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._engine.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.rows += len(feeds["pixels"])
        assert self.go_on.wait(PATIENCE_S)
        if self.failures:
            raise self.failures.pop(0)
        if self.always is not None:
            raise self.always
        return self._engine.run(feeds)

    def close(self) -> None:
        self.closed = True
        self._engine.close()


class Plant:
    """Opens detectors of a bundle whose engine for whole images is planted."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.engines: list[PlantedEngine] = []  # one of each detector

    @property
    def engine(self) -> PlantedEngine:
        """That of the latest detector."""
        return self.engines[-1]

    def __call__(self) -> Detector:
        opened = OpenedBundle.open(self._bundle, RunOptions(threads=1))
        self.engines.append(PlantedEngine(opened.engines["global"]))
        return Detector(replace(opened, engines={**opened.engines, "global": self.engine}))


def comparable(verdict: Verdict | dict[str, Any]) -> dict[str, Any]:
    """The parts of a verdict that every request for its image must get, without path and timings."""
    parts: dict[str, Any] = json.loads(
        json.dumps(verdict.to_json() if isinstance(verdict, Verdict) else verdict)
    )  # tuples are lists
    for own in ("path", "timings_ms", "overlay_jpeg_base64"):
        parts.pop(own, None)
    return parts


def same_verdict(got: dict[str, Any], expected: Verdict | dict[str, Any]) -> bool:
    """Whether two verdicts are of the same image by the same engine: floats within the fp32 tolerance."""
    return _same(comparable(got), comparable(expected))


def _same(got: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return bool(np.isclose(got, expected, rtol=0, atol=1e-5))
    if isinstance(expected, dict):
        return got.keys() == expected.keys() and all(_same(got[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(got) == len(expected) and all(map(_same, got, expected))
    return bool(got == expected)


def form(*files: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A multipart body with files, and its headers."""
    boundary = "glass-rt-test-boundary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode() + data
        for name, data in files
    ]
    body = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
