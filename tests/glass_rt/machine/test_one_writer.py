"""Two processes at one target: the second says which process is at it, and leaves the first's whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from glass_rt.bulk.one_job import only_job_in
from glass_rt.bulk.stores import locate
from glass_rt.bundle.folder import MANIFEST, staged
from glass_rt.errors import BundleExists, GlassError
from glass_rt.machine.one_writer import only_writer_in

Writer = Callable[[Path], AbstractContextManager[object]]


@contextmanager
def build(target: Path, *, force: bool = False) -> Iterator[None]:
    with staged(target, force=force) as folder:
        (folder / MANIFEST).write_text("whole")
        yield


def rebuild(target: Path) -> AbstractContextManager[None]:
    return build(target, force=True)


WRITERS: dict[str, Writer] = {
    "build, export or triton": build,
    "rebuild": rebuild,
    "bulk": lambda target: only_job_in(locate(str(target))),
    "bench or eval": only_writer_in,
}
FIRST = """
import sys
from pathlib import Path
from tests.glass_rt.machine.test_one_writer import WRITERS
with WRITERS[sys.argv[1]](Path(sys.argv[2])):
    print("ready", flush=True)
    if sys.stdin.read():
        import os
        os.kill(os.getpid(), 9)
"""


@pytest.fixture(params=WRITERS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def first(kind: str, target: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", FIRST, kind, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_the_second_is_refused(kind: str, tmp_path: Path) -> None:
    process = first(kind, tmp_path / "out")
    with pytest.raises(GlassError, match=f"out is being written by process {process.pid}; wait"):
        WRITERS[kind](tmp_path / "out").__enter__()
    process.communicate(b"", timeout=60)
    assert process.returncode == 0
    if "build" in kind:
        assert (tmp_path / "out" / MANIFEST).read_text() == "whole"
        assert [each.name for each in tmp_path.iterdir()] == ["out"]
    else:
        assert list(tmp_path.iterdir()) == []  # nothing was written into the folder that was made


def test_a_killed_one_is_in_nobody_s_way(kind: str, tmp_path: Path) -> None:
    process = first(kind, tmp_path / "out")
    process.communicate(b"kill", timeout=60)
    assert process.returncode == -9
    with WRITERS[kind](tmp_path / "out"):
        pass


def test_others_targets_are_free(kind: str, tmp_path: Path) -> None:
    with WRITERS[kind](tmp_path / "out"), WRITERS[kind](tmp_path / "other"):
        pass


@pytest.mark.parametrize("made", ["a bundle", "a file"])
def test_what_appears_while_a_bundle_is_built_stays(made: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(BundleExists, match="out exists already"), build(target):
        if made == "a file":
            target.write_text("mine")
        else:
            target.mkdir()
            (target / MANIFEST).write_text("mine")
    assert (target if made == "a file" else target / MANIFEST).read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["file/out", "file"])
def test_a_folder_that_cannot_be_made_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for writer in (only_writer_in, WRITERS["bulk"]):
        with pytest.raises(GlassError, match=f"{name} cannot be written"):
            writer(tmp_path / name).__enter__()
