"""The two ways in which tests run the command line agree."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.command_line import run_here, run_process


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (["--help"], None, 0),
        (["infer", "--nonsense"], None, 2),
        (["infer", "-", "--engine", "absent"], b"no image", 1),
        (["infer", "-", "--engine", "caf\udce9\x1b[2K"], None, 1),  # a name that is no UTF-8, and commands a terminal
        (["inspect", "absent"], None, 1),
        (["bench", "--engine", "x"], None, 2),
    ],
)
def test_exit_code_and_output_are_those_of_a_process(
    arguments: list[str], stdin: bytes | None, code: int, tmp_path: Path
) -> None:
    here, there = (run(*arguments, cwd=tmp_path, stdin=stdin) for run in (run_here, run_process))
    assert (here.returncode, here.stdout, here.stderr) == (there.returncode, there.stdout, there.stderr)
    assert here.returncode == code


def test_nothing_of_a_command_stays_in_this_process(tmp_path: Path) -> None:
    def state() -> tuple[object, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        descriptors = [os.fstat(number).st_ino for number in range(3)], len(list(Path("/proc/self/fd").iterdir()))
        return Path.cwd(), dict(os.environ), sys.argv, sys.stdin, sys.stdout, sys.stderr, handlers, descriptors

    before = state()
    run_here("infer", "absent.jpg", "--engine", "absent", cwd=tmp_path)
    assert state() == before
