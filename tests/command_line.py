"""The command line for tests: in a process of its own as users start it, or in this process, which saves its start.

Both give the same exit code and the same bytes on standard output and standard error: see test_command_line.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Protocol
from unittest import mock

from glass_rt.cli import EXIT_INTERRUPTED, main

TIMEOUT_S = 600
Done = subprocess.CompletedProcess[str]


class Cli(Protocol):
    """Runs `glass-rt` with arguments, in a folder, with bytes on its standard input."""

    def __call__(self, *arguments: object, cwd: Path | None = None, stdin: bytes | None = None) -> Done: ...


def run_process(*arguments: object, cwd: Path | None = None, stdin: bytes | None = None) -> Done:
    """Runs the command in a process of its own."""
    command = [sys.executable, "-m", "glass_rt", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, cwd=cwd, input=stdin, timeout=TIMEOUT_S)
    return Done(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def run_here(*arguments: object, cwd: Path | None = None, stdin: bytes | None = None) -> Done:
    """Runs the command's `main` in this process, with file descriptors 0 to 2 in files, as C libraries see them too.

    What `main` changes for its process's whole life is put back: the working folder, the environment, signal handlers.
    Only malloc is left as it is.
    """
    command = ["glass-rt", *map(str, arguments)]
    with ExitStack() as stack:
        given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(stdin or b"")
        given.seek(0)
        with _descriptors(given, out, err), _streams(), _life_of_a_process(command, cwd):
            code = _exit_code()
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt  # it was the person who runs the tests
        return Done(command, code, _text(out), _text(err))


def _exit_code() -> int:
    code: object = None
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # as the interpreter does
        traceback.print_exc()
        return 1
    assert code is None or isinstance(code, int)
    return code or 0


@contextmanager
def _descriptors(*files: IO[bytes]) -> Iterator[None]:
    """Puts files in the place of descriptors 0, 1 and 2."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(number) for number in range(3)]
    for number, file in enumerate(files):
        file.flush()
        os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        for number, descriptor in enumerate(saved):
            os.dup2(descriptor, number)
            os.close(descriptor)


@contextmanager
def _streams() -> Iterator[None]:
    """Python's streams on descriptors 0 to 2, with the error handlers that a new interpreter gives them."""
    with (
        open(0, encoding="utf-8", errors="surrogateescape", closefd=False) as stdin,
        open(1, "w", encoding="utf-8", errors="strict", closefd=False) as stdout,
        open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1) as stderr,
        mock.patch.multiple(sys, stdin=stdin, stdout=stdout, stderr=stderr),
    ):
        yield


@contextmanager
def _life_of_a_process(command: list[str], cwd: Path | None) -> Iterator[None]:
    """Arguments, a working folder, an environment and handlers of signals that end with the block."""
    folder = Path.cwd()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.dict(os.environ),
        mock.patch("glass_rt.cli.give_back_large_arrays"),
    ):
        os.chdir(cwd or folder)
        try:
            yield
        finally:
            os.chdir(folder)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
