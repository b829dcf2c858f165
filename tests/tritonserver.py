"""A real Triton server, from the Python environment that `make triton-check` sets up."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

VARIABLE = "GLASS_RT_TRITON"
START_S = 60


class TritonServer:
    """`tritonserver` on loopback, serving models of a repository, from `with` to its end.

    `environment` has nvidia-pytriton, which carries the server, and what the models need. Source: the package's layout.
    """

    def __init__(self, environment: Path, repository: Path, models: tuple[str, ...], work: Path) -> None:
        self.http_port, self.grpc_port = free_port(), free_port()
        self.log = work / "tritonserver.log"
        found = json.loads(
            _python(
                environment,
                "import json, sys, sysconfig as s; print(json.dumps([s.get_path('purelib'), s.get_config_var('LIBDIR'), list(sys.version_info[:2])]))",
            )
        )
        site, libraries, version = Path(found[0]), found[1], ".".join(map(str, found[2]))
        package = site / "pytriton" / "tritonserver"
        backends = work / "backends"
        shutil.copytree(package / "backends" / "python", backends / "python")
        stub = "triton_python_backend_stub"
        shutil.copy(package / "python_backend_stubs" / version / stub, backends / "python" / stub)
        self._command = [
            str(package / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={backends}",
            "--http-address=127.0.0.1",
            f"--http-port={self.http_port}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.grpc_port}",
            "--allow-metrics=false",
            "--exit-timeout-secs=5",  # it waits for models whose process has died
            "--model-control-mode=explicit",
            *(f"--load-model={model}" for model in models),
        ]
        self._environ = {**os.environ, "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{libraries}"}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str) -> Any:
        """The status of a GET, and its JSON where it has any."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                text = response.read()
                return response.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, None

    def stubs(self) -> list[int]:
        """The processes that run the models, found among the server's children."""
        children = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        pids = [int(pid) for file in children for pid in file.read_text().split()]
        return [pid for pid in pids if b"triton_python_backend_stub" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def __enter__(self) -> TritonServer:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environ)
        deadline = time.monotonic() + START_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise AssertionError(f"tritonserver did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)
        return self

    def _ready(self) -> bool:
        try:
            return bool(self.get("/v2/health/ready")[0] == 200)
        except OSError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    """A free port of loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _python(environment: Path, code: str) -> str:
    return subprocess.run(
        [environment / "bin" / "python", "-c", code], capture_output=True, text=True, check=True
    ).stdout
