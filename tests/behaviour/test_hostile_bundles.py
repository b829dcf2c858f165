"""A folder that is no bundle is refused in one line that names the file: no traceback, no waiting."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glass_rt.bundle.bundle import HEAD, REFERENCE, Bundle
from glass_rt.bundle.folder import MANIFEST, write_manifest
from glass_rt.bundle.precision_report import PrecisionReport
from glass_rt.cli import main
from tests.bench_zoo import write_bundle, write_picture

pytestmark = pytest.mark.slow

Outcome = tuple[int, str, str]
Run = Callable[..., Outcome]
ESCAPE = "\x1b]0;owned\x07\x1b[2J"
PATIENCE_S = 30
OPENERS = ("inspect", "verify", "infer", "triton")


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """A test that waits for a pipe or a device fails instead."""

    def ring(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """`run("inspect", folder)`: exit code, output and errors of a command that opens the bundle, in this process."""
    before = signal.getsignal(signal.SIGINT)
    picture = write_picture(tmp_path / "red.png", (180, 60, 60))
    more = {"infer": [str(picture)], "triton": ["--output", str(tmp_path / "models")]}

    def outcome(command: str, folder: Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["glass-rt", command, "--engine", str(folder), *more.get(command, [])])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(str(ended.value.code)), captured.out, captured.err

    yield outcome
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def refused(run: Run, folder: Path, names: str, commands: tuple[str, ...] = OPENERS) -> list[str]:
    """The lines with which commands refuse the folder; they name the file."""
    lines = []
    for command in commands:
        code, output, errors = run(command, folder)
        assert (code, output) == (1, "")
        assert errors.startswith("error: ")
        assert errors.endswith("\n")
        assert errors[:-1].isprintable(), "one line, without a command to the terminal"
        assert names in errors
        assert len(errors) < 1500
        lines.append(errors)
    return lines


def edited(folder: Path, path: str, value: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    *parents, last = (name.replace("|", ".") for name in path.split("."))
    target = manifest
    for parent in parents:
        target = target[parent]
    target[last] = value
    (folder / MANIFEST).write_text(json.dumps(manifest))


def nested(folder: Path, text: str) -> bytes:
    whole = (folder / MANIFEST).read_text().rstrip()
    return (whole[:-1] + f', "more": {text}}}').encode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda folder: b"[" * 100_000, "nests too deeply"),
        (lambda folder: b'{"a":' * 100_000, "nests too deeply"),
        (lambda folder: nested(folder, "[" * 100_000 + "]" * 100_000), "nests too deeply"),
        (lambda folder: nested(folder, "NaN"), "NaN is not a number"),
        (lambda folder: nested(folder, "-Infinity"), "-Infinity is not a number"),
        (lambda folder: nested(folder, "1" * 5000), "is not JSON"),
        (lambda folder: nested(folder, '{"a": 1, "a": 2}'), "'a' stands twice"),
        (lambda folder: nested(folder, '1, "schema": 1'), "'schema' stands twice"),
        (lambda folder: b" " * (5 << 20), "larger than any manifest"),
        (lambda folder: b"\xff\xfe", "is not text"),
        (lambda folder: b"", "is not JSON"),
        (lambda folder: b"\x00" * 100, "is not JSON"),
        (lambda folder: json.dumps({"schema": ESCAPE * 1000}).encode(), "this glass-rt reads schemas 1 and 2"),
        (lambda folder: json.dumps({"schema": [[1]] * 10**5}).encode(), "this glass-rt reads schemas 1 and 2"),
        (lambda folder: json.dumps({"schema": 1, "kind": ESCAPE * 1000}).encode(), "expected a 'bundle'"),
    ],
)
def test_text_that_is_no_manifest(run: Run, folder: Path, content: Callable[[Path], bytes], says: str) -> None:
    (folder / MANIFEST).write_bytes(content(folder))
    for line in refused(run, folder, MANIFEST):
        assert says in line


@pytest.mark.parametrize("value", [10**30, 10**400, -(10**30), 1e400, float("nan"), ESCAPE, None, True, [], {}])
@pytest.mark.parametrize(
    "field",
    [
        "threshold",
        "model.embedding_dim",
        "model.crop_size",
        "model.trained_crops",
        "model.mean",
        "engine.max_batch",
        "engine.backend",
        "engine.precision",
        "engine.device",
        "engine.files",
        "engine.files.global",
        "engine.requirements",
        "engine.profile",
        "parity.status",
        "parity.logits",
        "files.global|onnx.size",
        "files.global|onnx.sha256",
    ],
)
def test_values_that_no_field_takes(run: Run, folder: Path, field: str, value: Any) -> None:
    if value is None and field in ("engine.requirements", "engine.profile", "parity.logits"):
        return  # these may be left out
    if field == "parity.logits" and value in (10**30, -(10**30)):
        return  # a number like any other
    edited(folder, field, value)
    is_text = value == ESCAPE and field in ("engine.files.global", "files.global|onnx.sha256")
    refused(run, folder, folder.name if is_text else MANIFEST, ("inspect", "infer"))


@pytest.mark.parametrize(
    "requirements",
    [
        {"library": ""},
        {"library": ESCAPE},
        {"driver": ESCAPE},
        {"driver": "9" * 5000},
        {"compute_capabilities": ["\u00b2.\u00b2"]},
        {"compute_capabilities": ["9" * 5000 + ".1"]},
    ],
)
def test_requirements_that_no_machine_has(run: Run, folder: Path, requirements: dict[str, Any]) -> None:
    good = {
        "library": "tensorrt", "version": "10.3", "target": "default", "compute_capabilities": ["8.9"],
        "and_later": False, "driver": "580",
    }  # fmt: skip
    edited(folder, "engine.requirements", {**good, **requirements})
    refused(run, folder, MANIFEST)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a" * 300, "a" * 300),
        ("\x1b[31mred\x1b[0m", "\\u001b[31mred"),
        ("two\nlines", "two\\nlines"),
        ("nul\x00", "nul\\u0000"),
        ("\ud800", "\\ud800"),
        ("a/" * 3000 + "b", "b"),
        ("manifest.json/b", "b"),
        (f"{HEAD}/b", "b"),
    ],
)
def test_names_that_no_file_here_has(run: Run, folder: Path, name: str, says: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = manifest["files"][HEAD]
    manifest["engine"]["files"]["global"] = name
    (folder / MANIFEST).write_text(json.dumps(manifest))
    for command in ("inspect", "infer"):
        code, output, errors = run(command, folder)
        assert (code, output) == (1, "")
        assert errors[:-1].isprintable()
        assert says in errors


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", f"../{ESCAPE}", "a//b", "a\\b", "c:x", "", "." * 2, "\n/../x"])
def test_names_outside_the_folder(run: Run, folder: Path, name: str) -> None:
    edited(folder, "engine.files", {"global": name, "local": name})
    for line in refused(run, folder, MANIFEST):
        assert "outside its folder" in line


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        before = Path.cwd()
        os.chdir(path.parent)  # names of sockets are short
        try:
            bound.bind(path.name)
        finally:
            os.chdir(before)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def standard_input(path: Path) -> None:
    """In tests it is no file."""
    reader, _ = os.pipe()
    path.symlink_to(f"/proc/self/fd/{reader}")


KINDS = (Path.mkdir, a_pipe, a_socket, a_device, a_loop, standard_input)


@pytest.mark.skipif(sys.platform != "linux", reason="devices and descriptors have these names on Linux")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", [MANIFEST, "global.onnx", HEAD, REFERENCE, "unlisted"])
def test_what_is_no_file_in_the_place_of_one(run: Run, folder: Path, kind: Callable[[Path], None], name: str) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    kind(path)
    if (name, kind) == ("unlisted", Path.mkdir):
        assert run("infer", folder)[0] == 0, "an empty folder holds nothing that could be read"
        return
    refused(run, folder, name, ("verify", "triton") if name == REFERENCE else OPENERS)


@pytest.mark.skipif(sys.platform != "linux", reason="devices have these names on Linux")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_cache_that_is_none_is_passed_over(run: Run, folder: Path, kind: Callable[[Path], None]) -> None:
    edited(folder, "parity.status", "pending")
    (folder / "cache").mkdir()
    kind(folder / "cache" / "parity.json")
    for command in ("inspect", "infer"):
        assert run(command, folder)[0] == 0


@pytest.mark.parametrize(
    "record", ["[" * 100_000, '{"status": "passed"', "null", '{"status": {"a": 1e999}}', "9" * 5000]
)
def test_a_noted_parity_that_is_none_is_passed_over(run: Run, folder: Path, record: str) -> None:
    edited(folder, "parity.status", "pending")
    (folder / "cache").mkdir()
    (folder / "cache" / "parity.json").write_text(record)
    for command in ("inspect", "infer"):
        assert run(command, folder)[0] == 0


def test_a_file_that_may_not_be_read_is_named(run: Run, folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    (folder / HEAD).chmod(0)
    for line in refused(run, folder, HEAD):
        assert "cannot be read: Permission denied" in line


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff" * 100, (1 << 62).to_bytes(8, "little"), b"\x02" + bytes(7) + b"{}"]
)
def test_a_head_that_is_none(run: Run, folder: Path, content: bytes) -> None:
    manifest = Bundle.open(folder).manifest
    (folder / HEAD).write_bytes(content)
    write_manifest(folder, manifest)
    refused(run, folder, "head", ("infer", "verify"))


def test_texts_of_a_manifest_do_not_command_the_terminal(run: Run, folder: Path) -> None:
    """They are shown as file names are."""
    manifest = Bundle.open(folder).manifest
    weights = replace(manifest.model.weights, source=ESCAPE, sha256=ESCAPE)
    model = replace(manifest.model, name=f"{ESCAPE}\nfake row", backbone=ESCAPE, weights=weights)
    report = PrecisionReport(ESCAPE, 0.1, 0.1, {})
    write_manifest(folder, replace(manifest, model=model, tools={ESCAPE: ESCAPE}, precision_report=report))
    code, output, errors = run("inspect", folder)
    assert (code, errors) == (0, "")
    assert all(line.isprintable() for line in output.splitlines())
    assert "\\u001b[2J" in output
    assert "\\u000afake row" in output
    for command in ("verify", "infer", "triton"):
        code, output, errors = run(command, folder)
        assert code == 0
        assert all(line.isprintable() for line in (output + errors).splitlines())


def test_the_crop_size_of_a_manifest_is_that_of_its_engines(run: Run, folder: Path) -> None:
    edited(folder, "model.crop_size", 4096)
    for line in refused(run, folder, MANIFEST, ("infer",)):
        assert "model.crop_size is 4096; the global engine takes pixels (N, 224, 224, 3) float32" in line
