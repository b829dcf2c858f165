"""Every command in processes that lack something: it works, or says in one line what is missing. Never a traceback."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import pytest

from glass_rt.machine.environment import installed
from tests.behaviour.test_bundle_kinds import Kind, write_kind
from tests.bench_zoo import write_labelled_pictures
from tests.surroundings import STREAMS, Nursery, Run, Surrounding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and drops rights as Linux does"),
]

PORTABLE = Path(__file__).parents[2] / "benchmarks" / "demo_weights" / "glass"
ACCOUNT = 12345  # without a name, as a container's or a cluster's may be
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

# `{in}`: what the commands read; `{out}`: a folder of the run's own; `{port}`: a free port.
INFER = ["infer", "--engine", "{in}/ort", "{in}/bilder/fake/0.png"]
COMMANDS = {
    "help": ["--help"],
    "infer": INFER,
    "infer-openvino": ["infer", "--engine", "{in}/ov", "{in}/bilder/fake/0.png"],
    "infer-files": [*INFER, "--overlay", "{out}/ä", "--output", "{out}/ö.csv"],
    "eval": ["eval", "--engine", "{in}/ort", "--bootstrap", "9", "--output", "{out}/e", "{in}/bilder"],
    "calibrate": [
        "calibrate",
        "--engine",
        "{in}/ort",
        "{in}/bilder",
        "--fpr",
        "0.97",
        "--fnr",
        "0.97",
        "--confidence",
        "0.9",
        "--tiers",
        "off",
        "--dry-run",
        "--report",
        "{out}/kä",
    ],
    "train-help": ["train", "--help"],
    "card": ["card", "--engine", "{in}/ort"],
    "inspect": ["inspect", "{in}/ort"],
    "verify": ["verify", "{in}/ort"],
    "doctor": ["doctor"],
    "triton": ["triton", "--engine", "{in}/ort", "--output", "{out}/m"],
    "build": ["build", "--from", "{in}/portable", "--backend", "onnxruntime", "--output", "{out}/bü"],
    "build-openvino": ["build", "--from", "{in}/portable", "--backend", "openvino", "--output", "{out}/bü"],
    "serve": ["serve", "--engine", "{in}/ort", "--port", "{port}"],
}
ON_OPENVINO = ("infer-openvino", "build-openvino")


# What rows try that need not try every command.
QUICK = tuple(command for command in COMMANDS if command not in ("eval", "calibrate"))
JUDGING = ("infer", "infer-files", "build", "serve")
OPENING = ("infer", "infer-openvino", "build", "build-openvino", "serve")


@dataclass(frozen=True)
class Row:
    """A surrounding, the commands to try in it, and those that cannot work there, each with the words of its line."""

    surrounding: Surrounding
    commands: tuple[str, ...] = tuple(COMMANDS)
    refused: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.surrounding.name


def refusing(words: str, *, but: tuple[str, ...]) -> dict[str, str]:
    return {command: words for command in COMMANDS if command not in but}


def closed(*descriptors: int, commands: tuple[str, ...] = JUDGING) -> Row:
    name = "no " + ", ".join(STREAMS[number] for number in descriptors)
    words = "" if 2 in descriptors else "standard output cannot be written: it is closed"
    return Row(
        Surrounding(name, closed=descriptors),
        commands,
        refusing(words, but=("infer-files", "serve")) if 1 in descriptors else {},
    )


NO_HOME_OR_NAME = {"HOME": None, "USER": None, "LOGNAME": None, "XDG_CACHE_HOME": None}
READ_ONLY = {"HOME": "{own}/shut", "XDG_CACHE_HOME": None}
NO_UTF8 = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
MANY = "Too many open files.*ulimit -n"
NO_THREADS = "not enough memory, or threads, to "
SHUT = "OpenVINO needs a working folder that this account may enter"
ROWS = [
    Row(Surrounding("no home and no name", NO_HOME_OR_NAME, account=ACCOUNT)),
    Row(Surrounding("a home that is not there", {"HOME": "{own}/absent/home"}, fresh=True), OPENING),
    Row(Surrounding("a home that is read-only", READ_ONLY, account=ACCOUNT), OPENING),
    Row(Surrounding("no folder for temporary files", {"TMPDIR": "{own}/shut/tmp"}, account=ACCOUNT), JUDGING),
    Row(Surrounding("the C locale", {"LC_ALL": "C"}, fresh=True), JUDGING),
    Row(Surrounding("a locale without UTF-8", NO_UTF8, fresh=True), QUICK),
    Row(
        Surrounding("8 open files", limits={"RLIMIT_NOFILE": 8}),
        refused=refusing(MANY, but=("help", "doctor", "train-help")),
    ),
    Row(Surrounding("32 open files", limits={"RLIMIT_NOFILE": 32}), JUDGING),
    Row(
        Surrounding("no threads", limits={"RLIMIT_NPROC": 1}, account=ACCOUNT),
        QUICK,
        refusing(NO_THREADS, but=("help", "train-help", "card", "inspect", "doctor", "triton")),
    ),
    Row(Surrounding("a stack of 256 KiB", limits={"RLIMIT_STACK": 1 << 18}, fresh=True), OPENING),
    Row(Surrounding("a working folder that was deleted", folder="deleted"), JUDGING),
    Row(
        Surrounding("a working folder that is closed", folder="closed", account=ACCOUNT),
        OPENING,
        dict.fromkeys(ON_OPENVINO, SHUT),
    ),
    closed(0),
    closed(1, commands=QUICK),
    closed(2),
    *(closed(*pair, commands=("infer", "infer-files", "serve")) for pair in combinations(range(3), 2)),
    closed(0, 1, 2),
]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    process = Nursery()
    yield process
    process.close()


@pytest.fixture(scope="module")
def given() -> Iterator[Path]:
    """What commands read, for every account to read; pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="glass-rt-größe-"))
    write_labelled_pictures(folder / "bilder", 1)
    (folder / "zero.png").symlink_to("/dev/zero")
    write_kind(Kind("onnxruntime", "fp32", ".onnx", "glass", True, "passed"), folder / "ort")
    if installed("openvino"):
        write_kind(Kind("openvino", "fp32", ".xml", "glass", True, "passed"), folder / "ov")
    shutil.copytree(PORTABLE, folder / "portable")
    for path in (folder, *(path for path in folder.rglob("*") if not path.is_symlink())):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def own() -> Iterator[Path]:
    """A run's own folder, open to every account."""
    folder = Path(tempfile.mkdtemp(prefix="glass-rt-größe-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def placed(arguments: list[str], given: Path) -> list[str]:
    return [argument.replace("{in}", str(given)) for argument in arguments]


def check(run: Run, words: str | None, code: int = 1) -> None:
    """A run that worked, or (`words`) one that ended with a line of the reason and the remedy."""
    said = run.out + run.err
    assert "Traceback" not in said
    if words is None:
        assert run.code == 0, said
        return
    assert run.code == code, said
    errors = [line for line in run.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == (1 if words else 0), said
    assert not words or re.search(words, errors[0]), said


@pytest.mark.parametrize(
    ("row", "command"), [pytest.param(row, command, id=f"{row}-{command}") for row in ROWS for command in row.commands]
)
def test_each_command_works_or_says_why_not(row: Row, command: str, nursery: Nursery, given: Path, own: Path) -> None:
    if row.surrounding.account is not None and not ROOT:
        pytest.skip("only root becomes another account")
    if command in ON_OPENVINO and not installed("openvino"):
        pytest.skip("openvino is not installed")
    run = nursery.run(row.surrounding, placed(COMMANDS[command], given), own)
    check(run, row.refused.get(command))


# What another owner has closed, with what mode, for which command, and the words of its line.
CLOSED_FILES = [
    ("bilder/fake/0.png", 0o600, "infer", "0.png: the file cannot be read: Permission denied"),
    ("bilder/fake", 0o700, "infer", "0.png: the file cannot be read: Permission denied"),
    ("bilder/fake", 0o700, "eval", "bilder/fake cannot be read: Permission denied"),
    ("ort/head.safetensors", 0o600, "infer", "head.safetensors cannot be read: Permission denied"),
    ("ort/global.onnx", 0o600, "verify", "global.onnx cannot be read: Permission denied"),
    ("ort/manifest.json", 0o600, "inspect", "manifest.json cannot be read: Permission denied"),
    ("ort", 0o700, "serve", "ort' is not readable"),
    ("ort/local.onnx", 0o600, "triton", "local.onnx cannot be read: Permission denied"),
    ("portable/global.fp32.onnx", 0o600, "build", "global.fp32.onnx cannot be read: Permission denied"),
]


@pytest.mark.skipif(not ROOT, reason="only root becomes another account")
@pytest.mark.parametrize(("name", "mode", "command", "words"), CLOSED_FILES)
def test_what_another_owner_has_closed_is_named(
    name: str, mode: int, command: str, words: str, nursery: Nursery, given: Path, own: Path
) -> None:
    """What is open to all, and writable to its owner alone, is what each command reads above."""
    path, before = given / name, (given / name).stat().st_mode
    path.chmod(mode)
    try:
        run = nursery.run(Surrounding("another owner", account=ACCOUNT), placed(COMMANDS[command], given), own)
    finally:
        path.chmod(before)
    said = run.out + run.err
    assert run.code in (1, 2), said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if re.search(words, line)]) == 1, said


# Bounds within which a reader of what has no end is caught, before it takes the machine.
BOUNDED = {"RLIMIT_AS": 16 << 30, "RLIMIT_CPU": 60}
ENDLESS = ("/dev/zero", "/proc/kmsg", "{in}/zero.png")  # the last is a link
TAKING_FILES = {
    "image": ["infer", "--engine", "{in}/ort", "{file}"],
    "image with overlay": ["infer", "--engine", "{in}/ort", "--overlay", "{out}/o", "{file}"],
    "labels": ["eval", "--engine", "{in}/ort", "--labels", "{file}", "--output", "{out}/e", "{in}/bilder"],
    "keys": ["serve", "--engine", "{in}/ort", "--port", "{port}", "--api-key-file", "{file}"],
    "record": ["bench", "compare", "{file}", "{file}"],
    "bundle": ["inspect", "{file}"],
    "portable model": ["build", "--from", "{file}", "--output", "{out}/b"],
    "profile": ["build", "--from", "{in}/portable", "--backend", "tensorrt_rtx", "--profile", "{file}"],
}


@pytest.mark.parametrize("file", ENDLESS)
@pytest.mark.parametrize("use", TAKING_FILES)
def test_what_has_no_end_is_refused(use: str, file: str, nursery: Nursery, given: Path, own: Path) -> None:
    if use == "profile" and not installed("tensorrt_rtx"):
        pytest.skip("tensorrt_rtx is not installed")
    arguments = [argument.replace("{file}", file) for argument in TAKING_FILES[use]]
    check_refusal(nursery.run(Surrounding("bounded", limits=BOUNDED), placed(arguments, given), own))


@pytest.mark.parametrize(
    "arguments", [["infer", "--engine", "{in}/ort", "-"], ["infer", "--engine", "{in}/ort", "/dev/stdin"]]
)
def test_standard_input_without_an_end_is_refused(
    arguments: list[str], nursery: Nursery, given: Path, own: Path
) -> None:
    surrounding = Surrounding("bounded", limits=BOUNDED, stdin="/dev/zero")
    check_refusal(nursery.run(surrounding, placed(arguments, given), own))


def check_refusal(run: Run) -> None:
    said = run.out + run.err
    assert run.code in (1, 2), said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.lower().startswith("error")]) == 1, said
