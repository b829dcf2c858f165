"""A contender in a process of its own, seen from the harness."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any

from glass_bench.errors import ContenderFailed
from glass_bench.measure.contenders import Contender
from glass_bench.measure.systems import Description


class ContenderProcess:
    """Starts the process and opens the contender in it. Between orders it sleeps, and costs nothing but memory.

    Raises ContenderFailed, beginning with the contender's name, where it cannot be opened, dies, or an order fails.
    """

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self._stderr = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed in close
        self._process = subprocess.Popen(
            [sys.executable, "-m", "glass_bench.measure.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
        )
        try:
            reply = self.ask("open", contender=contender.to_json())
        except BaseException:
            self.kill()
            raise
        self.description = Description(**reply["description"])
        self.open_s: float = reply["open_s"]
        self.resident_mb: float | None = reply["resident_mb"]

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Gives an order and waits for its reply. Raises ContenderFailed."""
        assert self._process.stdin is not None, "opened as pipes"
        assert self._process.stdout is not None, "opened as pipes"
        try:
            self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ContenderFailed(f"{self.contender.name}: its process died during `{command}`{self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ContenderFailed(f"{self.contender.name}: {reply['error']}")
        return reply

    def close(self) -> None:
        """Lets the process finish its order and end; kills it after 20 s."""
        if self._process.poll() is None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.kill()

    def kill(self) -> None:
        """Ends the process at once, in the middle of an order too."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> ContenderProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill() if error is not None else self.close()

    def _last_words(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr.read().splitlines() if line.strip()]
        words = f": {lines[-1]}" if lines else ""
        return f" (exit {code}){words}"
