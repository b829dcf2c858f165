"""A real `glass-rt serve` in a process of its own."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

START_S = 120.0  # a slow machine's; nothing is said of speed


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class ServerProcess:
    """A running server: `http` and `grpc` are host:port, `log` its standard error."""

    process: subprocess.Popen[bytes]
    log: Path
    http: str
    grpc: str

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(self.http, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Ends the server as SIGTERM does, and gives its exit code."""
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()


def start_server(bundle: Path, log: Path, *options: object) -> ServerProcess:
    """Starts a server on free ports, HTTP and gRPC, and waits until it listens on both."""
    command = [sys.executable, "-m", "glass_rt", "serve", "--engine", str(bundle), "--port", "0", "--grpc-port", "0"]
    with log.open("wb") as errors:
        process = subprocess.Popen([*command, *map(str, options)], stdout=subprocess.DEVNULL, stderr=errors)
    server = ServerProcess(process, log, "", "")
    try:
        _await_addresses(server)
    except BaseException:
        server.stop()
        raise
    return server


def _await_addresses(server: ServerProcess) -> None:
    until = time.monotonic() + START_S
    while not (server.http and server.grpc):
        written = server.log.read_text()
        assert server.process.poll() is None, f"the server ended: {written}"
        assert time.monotonic() < until, f"the server does not listen: {written}"
        for line in written.splitlines():
            fields = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
            server.http = fields.get("url", server.http).removeprefix("http://")
            server.grpc = fields.get("grpc", server.grpc)
        time.sleep(0.05)
