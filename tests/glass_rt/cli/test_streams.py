"""Commands with standard streams that are closed or full: no traceback, the right exit code, one line where one can be said."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from tests.bench_zoo import write_bundle

pytestmark = pytest.mark.slow

COMMANDS: dict[str, tuple[str, int, bool]] = {  # arguments; exit code and whether it prints results, with open streams
    "help": ("--help", 0, True),
    "version": ("--version", 0, True),
    "help of a command": ("infer --help", 0, True),
    "doctor": ("doctor --json", 0, True),
    "infer": ("infer {picture} --engine {bundle}", 0, True),
    "infer to a file": ("infer {picture} --engine {bundle} --output {new}/r.jsonl", 0, False),
    "infer to Parquet": ("infer {picture} --engine {bundle} --output {new}/r.parquet", 0, False),
    "infer of nothing": ("infer {new}/absent.png --engine {bundle}", 1, True),
    "infer with evidence": ("infer {picture} --engine {bundle} --overlay {new}/pictures --csv", 0, True),
    "inspect": ("inspect {bundle}", 0, True),
    "verify": ("verify {bundle}", 0, True),
    "build from nothing": ("build --from {new}/absent", 1, False),
    "build of nothing": ("build", 2, False),
    "triton": ("triton --engine {bundle} --output {new}/models", 0, True),
    "wrong usage": ("infer --nonsense", 2, False),
    "no such command": ("nonsense", 2, False),
}
CLOSED = ["".join(which) for which in product(("", " <&-"), ("", " >&-"), ("", " 2>&-"))]
FULL = [" >/dev/full", " 2>/dev/full", " >/dev/full 2>/dev/full", " <&- >/dev/full", " 2>&- >/dev/full"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("zoo") / "zoo")  # opens in milliseconds


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_closed_and_full_streams(command: str, bundle: Path, pictures: tuple[Path, ...], tmp_path: Path) -> None:
    arguments, code, prints = COMMANDS[command]
    running: dict[str, subprocess.Popen[str]] = {}
    for number, state in enumerate([*CLOSED, *(FULL if prints else FULL[1:2])]):
        new = tmp_path / str(number)
        new.mkdir()
        words = arguments.format(picture=pictures[5], bundle=bundle, new=new)
        line = f"{shlex.quote(sys.executable)} -m glass_rt {words}{state}"
        running[state] = subprocess.Popen(
            line, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    for state, process in running.items():
        out, err = process.communicate(timeout=300)
        lost = prints and " >" in state
        assert process.returncode == (1 if lost else code), (state, err)
        for said in (out, err):
            assert "Traceback" not in said, state
            assert "Exception ignored" not in said, state
        if lost and " 2>" not in state:
            why = "No space left on device" if "full" in state else "it is closed"
            assert [line for line in err.splitlines() if line.startswith("error: ")] == [
                f"error: standard output cannot be written: {why}"
            ]
        if "r.jsonl" in arguments:
            results = next(iter(tmp_path.glob(f"{list(running).index(state)}/r.jsonl")))
            assert results.read_bytes().count(b"\n") == 1, state


@pytest.mark.parametrize("state", ["<&-", "<&- >&- 2>&-"])
def test_an_image_of_a_closed_standard_input_is_an_error_of_its_own(
    state: str, bundle: Path, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    line = f"{sys.executable} -m glass_rt infer - {pictures[5]} --engine {bundle} --output {tmp_path}/r.jsonl {state}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.returncode == 1
    assert (tmp_path / "r.jsonl").read_bytes().count(b"\n") == 1
    if "2>" not in state:
        assert "-: standard input cannot be read: it is closed" in done.stderr


def test_where_nobody_reads_any_more_it_ends_as_by_the_signal(bundle: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "glass_rt", "inspect", str(bundle)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no\x1b[2Ksuch"],
        ["infer", "--no\x1b[2Ksuch"],
        ["infer", "x", "--seed", "\x1b[2K"],
        ["infer", "x", "--engine", "a/\x1b[2K"],
        ["infer", "x", "--engine", "a", "--overlay", "/dev/null/\x1b[2K"],
        ["infer", "x\x1b[2K", "--overlay", "x\x1b[2K/y"],
        ["inspect", "\x1b[2K"],
        ["verify", "\x1b[2K"],
        ["build", "--from", "\x1b[2K"],
        ["build", "--weights", "\x1b[2K"],
        ["build", "--backbone", "\x1b[2K"],
        ["build", "--backend", "\x1b[2K"],
        ["export", "--weights", "\x1b[2K", "--output", "x"],
        ["triton", "--engine", "\x1b[2K", "--output", "x"],
        ["bulk", "\x1b[2K", "--engine", "\x1b[2K", "--output", "\x1b[2K"],
        ["bench", "--images", "\x1b[2K"],
        ["eval", "\x1b[2K"],
        ["serve", "--engine", "\x1b[2K"],
        ["serve", "--host", "\x1b[2K", "--engine", "\x1b[2K"],
    ],
)
def test_a_name_from_the_arguments_cannot_command_the_terminal(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "glass_rt", *arguments], capture_output=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode in (1, 2)
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
