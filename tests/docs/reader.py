"""A reader who follows a page: types its commands and runs its programs, in order, in a folder of their own.

What takes long or is not there is replaced: `vit_b16` by the smallest backbone, bundles that the page does not build by
tiny ones, ports by free ones. `pip` and `make` are not run: extras and targets are looked up.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest

from glass_rt.cli import cli
from tests.bench_zoo import write_bundle, write_labelled_pictures, write_picture
from tests.command_line import Done, run_here, run_process
from tests.docs.blocks import ROOT, Block
from tests.serving import Process, serve_process

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BACKBONE = "mobilenet_v3_small"
TIMEOUT_S = 120
_OPERATORS = frozenset("();<>|&")
_LARGE = ("image.png", "image.jpg", "photo.jpg")
_SMALL = ("a.jpg", "b.png", *(f"photos/{number}.jpg" for number in range(8)))
_SERVER_OPTIONS = ("--engine", "--host", "--port", "--grpc-port")  # that the tests choose
Checkpoint = Callable[[Path], None]


class Reader:
    """Runs blocks in `folder`; `write_checkpoint` writes a checkpoint of `BACKBONE`. Closed by the exit stack."""

    def __init__(self, folder: Path, write_checkpoint: Checkpoint, closing: ExitStack) -> None:
        self._folder, self._write_checkpoint, self._closing = folder, write_checkpoint, closing
        self._server: tuple[Process, ExitStack] | None = None
        self.printed = ""  # by the last command
        for name in _LARGE:
            write_picture(folder / name, (170, 90, 80), 1200, 900)
        for name in _SMALL:
            write_picture(folder / name, (80, 100, 160))
        write_labelled_pictures(folder / "labelled")
        (folder / "benchmarks").symlink_to(ROOT / "benchmarks")

    def run(self, block: Block) -> None:
        """Runs one block, or compares it with what the last command printed. Fails with the block's place."""
        text = block.text.replace("vit_b16", BACKBONE)
        if block.mark == "output":
            {"json": self._compare_json, "text": self._compare_text}[block.language](text)
        elif block.language == "sh":
            for command in commands(text):
                done = self._type(command)
                said = f"{block}: {command}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
                assert (done.returncode != 0) == (block.mark == "fails"), said
        elif block.language == "python":
            self._provide(text)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(self._folder)
                exec(compile(self._addressed(text), str(block), "exec"), {"__name__": "a_page"})
        elif block.language == "toml":
            tomllib.loads(text)
        else:
            raise AssertionError(f"{block}: nothing runs a block of {block.language or 'no language'}; mark it")

    def _type(self, command: str) -> Done:
        """Runs one command line."""
        words = simple_words(command)
        nothing = Done(words, 0, "", "")
        if words[:1] == ["pip"]:
            check_extras(words)
            return nothing
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
            return nothing
        self._provide(" ".join(words) or command)
        if words[:2] == ["glass-rt", "serve"]:
            self._serve(words[2:])
            return nothing
        if words[:1] == ["glass-rt"]:
            # What tests before have left in this process's memory would count against --memory.
            run = run_process if words[1] == "bulk" or "--memory" in words else run_here
            budget = (
                ["--budget", "2"] if words[1] == "bench" else []
            )  # seconds of measuring; the harness is tested elsewhere
            done = run(*words[1:], *budget, cwd=self._folder)
        else:
            done = self._in_a_shell(self._addressed(command))
        self.printed = done.stdout
        return done

    def _in_a_shell(self, command: str) -> Done:
        tools = {found[1] for found in re.finditer(r"(?:^|\| |<\()(\w+)", command)}
        if missing := [tool for tool in tools & {"curl", "jq", "base64"} if shutil.which(tool) is None]:
            pytest.skip(f"not here: {', '.join(missing)}")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self._folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )

    def _serve(self, options: Sequence[str]) -> None:
        """Starts the server on free ports, in the place of the one that the page started before."""
        check_options(["serve", *options])
        if self._server is not None:
            self._server[1].close()
        chosen = {name: value for name, value in pairwise(options) if name in _SERVER_OPTIONS}
        more = [word for word in options if word not in chosen and word not in chosen.values()]
        more = [str(self._folder / word) if (self._folder / word).exists() else word for word in more]
        more += ["--grpc-port", "0"] if "--grpc-port" in chosen else []
        stack = self._closing.enter_context(ExitStack())
        bundle = self._folder / chosen.get("--engine", f"bundles/{BACKBONE}")
        server = stack.enter_context(serve_process(bundle, self._folder, *more))
        self._server = server, stack

    def _addressed(self, text: str) -> str:
        """The text with the ports of the running server."""
        if self._server is None:
            return text
        server, _ = self._server
        return re.sub(r"(?:127\.0\.0\.1|localhost):8000", server.http, text).replace("localhost:8001", server.grpc)

    def _provide(self, text: str) -> None:
        """Makes the checkpoint and the bundles that a text takes for granted."""
        if "glass_vit.pt" in text and not (self._folder / "glass_vit.pt").exists():
            self._write_checkpoint(self._folder / "glass_vit.pt")
        written = re.findall(r"--output (bundles/\w+)", text)
        for name in re.findall(r"bundles/\w+", text):
            target = self._folder / name
            if name in written or target.exists():
                continue
            if f"--from {name}" in text:
                built = run_here("build", "--backbone", BACKBONE, "--backend", "onnxruntime", "--output", target)
                assert built.returncode == 0, built.stderr
            else:
                write_bundle(target, "resize" if "resize" in name else "glass")
        if re.search(r"glass-rt (infer|inspect|verify|serve)", text) and not (self._folder / "bundles").exists():
            write_bundle(self._folder / "bundles" / BACKBONE)

    def _compare_json(self, text: str) -> None:
        check_keys(json.loads(text), json.loads(self.printed))

    def _compare_text(self, text: str) -> None:
        """Every line of the text was printed, in this order, with other numbers."""
        printed = iter(self.printed.splitlines())
        for line in text.splitlines():
            parts = re.split(r"[-+]?\d[\d.]*|\s+", line)
            pattern = re.compile(r"[-+\d.\s]+".join(map(re.escape, parts)))
            assert any(pattern.fullmatch(other) for other in printed), f"not printed: {line}\n{self.printed}"


def commands(text: str) -> list[str]:
    """The command lines of a block, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def simple_words(command: str) -> list[str]:
    """The words of a command without pipes, redirections and substitutions; none of any other."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    return [] if "$(" in command or any(set(word) <= _OPERATORS for word in words) else words


def check_options(arguments: Sequence[str]) -> None:
    """Raises click's UsageError where a command or an option of `glass-rt` does not exist."""
    command: click.Command = cli
    context = click.Context(cli, info_name="glass-rt")
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and (found := command.get_command(context, rest[0])):
        command, rest = found, rest[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    assert command is not cli, f"no such command: {arguments}"
    command.make_parser(context).parse_args(args=rest)


def check_extras(words: Sequence[str]) -> None:
    """Fails where `pip install` names an extra that glass-rt does not have."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for word in words:
        if found := re.fullmatch(r"(?:\.|glass-rt)\[(.*)\]", word):
            assert set(found[1].split(",")) <= known.keys(), word


def check_keys(shown: Any, real: Any) -> None:
    """What is shown has the keys of what is real, at every depth; of lists, the first items are compared."""
    if isinstance(shown, dict):
        assert isinstance(real, dict)
        assert shown.keys() == real.keys()
        for key, value in shown.items():
            check_keys(value, real[key])
    elif isinstance(shown, list):
        assert isinstance(real, list)
        assert bool(shown) == bool(real)
        if shown:
            check_keys(shown[0], real[0])
    else:
        numbers = (int, float)
        assert type(shown) is type(real) or (isinstance(shown, numbers) and isinstance(real, numbers)), (shown, real)
