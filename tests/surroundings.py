"""Runs `glass-rt` in processes that lack what processes usually have: a home, a name, descriptors, rights, streams.

A process of its own imports what every command needs and forks for each run, which saves most of its start. A run as
another account does its command once as root before: the interpreter may lie where other accounts cannot read, and
what is imported lazily is imported by then.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glass_rt.machine.telemetry import keep_silent

TIMEOUT_S = 120
STREAMS = ("stdin", "stdout", "stderr")


@dataclass(frozen=True)
class Surrounding:
    """What a process finds.

    `environment`: variables by name, None to remove one; `{own}` stands for the run's own folder. `limits`: soft and
    hard limits by their names in `resource`. `account`: user and group, both without a name. `folder`: `deleted` or
    `closed` for a working folder that is so. `closed`: descriptors of standard streams. `stdin`: a file. `fresh`: Python starts in it.
    """

    name: str
    environment: Mapping[str, str | None] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    account: int | None = None
    folder: str | None = None
    closed: tuple[int, ...] = ()
    stdin: str = os.devnull
    fresh: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Run:
    """How a run ended: exit code (negative: the signal's number), standard output and standard error."""

    code: int
    out: str
    err: str


class Nursery:
    """The process that forks."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.surroundings"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, surrounding: Surrounding, arguments: list[str], own: Path) -> Run:
        """Runs the command, in which `{out}` is a folder to write in and `{port}` a free port.

        `own`: an empty folder for this run, open to every account. What listens on the port is told to stop.
        """
        order = {"surrounding": asdict(surrounding), "arguments": arguments, "own": str(own)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        out, err = ((own / name).read_text("utf-8", "backslashreplace") for name in ("stdout", "stderr"))
        return Run(code, out, err)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=TIMEOUT_S)


def main() -> None:
    """Runs orders from standard input, one JSON object a line, and answers each with its exit code."""
    _import_what_runs_need()
    for line in sys.stdin:
        order = json.loads(line)
        port = _free_port()
        arguments = [str(argument).replace("{port}", str(port)) for argument in order["arguments"]]
        pid = os.fork()
        if pid == 0:
            _run(Surrounding(**order["surrounding"]), arguments, Path(order["own"]))
        print(_ended(pid, port), flush=True)


def _import_what_runs_need() -> None:
    from importlib import import_module

    keep_silent()
    for name in ("cv2", "numpy", "glass_rt.cli", "glass_rt.detector", "onnxruntime", "openvino"):
        if find_spec(name) is not None:
            import_module(name)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _ended(pid: int, port: int) -> int:
    """The exit code of a process, which is told to stop whenever it begins to listen on the port."""
    listened = False
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        with socket.socket() as client:
            listens = client.connect_ex(("127.0.0.1", port)) == 0
        if listens and not listened:
            os.kill(pid, signal.SIGTERM)
        listened = listens
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 124


def _run(surrounding: Surrounding, arguments: list[str], own: Path) -> None:
    """In the forked process, which this never leaves."""
    try:
        if surrounding.account is not None:
            _redirect(own / "warm", (), surrounding.stdin)
            _command(arguments, own / "warm")
        _redirect(own, surrounding.closed, surrounding.stdin)
        _apply(surrounding, own)
        code = _fresh(arguments, own) if surrounding.fresh else _command(arguments, own)
    except BaseException:
        Path(own / "stderr").write_text(traceback.format_exc())
        code = 99
    os._exit(code)


def _command(arguments: list[str], own: Path) -> int:
    from glass_rt.__main__ import main as run_command

    sys.argv = ["glass-rt", *_placed(arguments, own)]
    try:
        run_command()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        return 1
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    assert code is None or isinstance(code, int)
    return code or 0


def _fresh(arguments: list[str], own: Path) -> int:
    os.execv(sys.executable, [sys.executable, "-m", "glass_rt", *_placed(arguments, own)])


def _placed(arguments: list[str], own: Path) -> list[str]:
    return [argument.replace("{out}", str(own / "out")) for argument in arguments]


def _redirect(own: Path, closed: tuple[int, ...], stdin: str) -> None:
    """Standard streams in files of `own`, or closed, as a new interpreter sets them up."""
    own.mkdir(exist_ok=True)
    (own / "out").mkdir()
    (own / "out").chmod(0o777)
    descriptors = [os.open(stdin, os.O_RDONLY)]
    descriptors += [os.open(own / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666) for name in STREAMS[1:]]
    for number, (name, descriptor) in enumerate(zip(STREAMS, descriptors, strict=True)):
        os.dup2(descriptor, number)
        os.close(descriptor)
        stream: Any = None
        if number in closed:
            os.close(number)
        else:
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        for attribute in (name, f"__{name}__"):
            setattr(sys, attribute, stream)


def _apply(surrounding: Surrounding, own: Path) -> None:
    """What surrounds a run; the account comes last, since other changes need root's rights."""
    (own / "shut").mkdir(mode=0o555)
    for name, value in surrounding.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value.replace("{own}", str(own))
    _go_to(own / "work", surrounding.folder)
    for name, limit in surrounding.limits.items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    if surrounding.account is not None:
        os.setgroups([])
        os.setgid(surrounding.account)
        os.setuid(surrounding.account)


def _go_to(folder: Path, fault: str | None) -> None:
    """Makes `folder` the working folder, then deletes it, or closes it for everybody."""
    folder.mkdir()
    folder.chmod(0o777)
    os.chdir(folder)
    if fault == "deleted":
        folder.rmdir()
    if fault == "closed":
        folder.chmod(0)


if __name__ == "__main__":
    main()
