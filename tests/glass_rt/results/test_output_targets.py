"""What `--output` may name, and what happens to it while it is written: one writer, and a word for each kind of loss."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glass_rt.errors import GlassError, ImageCorrupt, OutputLost, UsageError
from glass_rt.results.output import open_output
from glass_rt.results.verdict import Failure

pytestmark = pytest.mark.slow

SUFFIXES = (".jsonl", ".csv", ".parquet")


def result(name: str) -> Failure:
    return Failure(name, ImageCorrupt("truncated"))


def names_in(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return [row["path"] for row in pq.read_table(path).to_pylist()]
    if path.suffix == ".csv":
        return [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
    return [json.loads(line)["path"] for line in path.read_text().splitlines()]


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path.parent)
        listener.bind(path.name)


TARGETS: dict[str, tuple[Callable[[Path], object], str]] = {
    "named pipe": (os.mkfifo, "is a named pipe"),
    "folder": (Path.mkdir, "is a folder"),
    "socket": (a_socket, "is a socket"),
    "link to a full device": (lambda path: path.symlink_to("/dev/full"), "is a device"),
    "link to /dev/null": (lambda path: path.symlink_to("/dev/null"), "is a device"),
    "link to itself": (lambda path: path.symlink_to(path.name), "cannot be written: Too many levels"),
    "below a file": (lambda path: path.parent.touch(), "cannot be written: Not a directory"),
    "in no folder": (lambda path: None, "cannot be written: No such file"),
    "a long name": (lambda path: None, "cannot be written: File name too long"),
}
PLACES = {"below a file": "file/r", "in no folder": "absent/r", "a long name": 300 * "x"}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", TARGETS)
def test_what_is_no_regular_file_is_refused_in_one_line(
    kind: str, suffix: str, resume: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, says = TARGETS[kind]
    path = tmp_path / f"{PLACES.get(kind, 'r')}{suffix}"
    make(path)
    before = sorted(each.name for each in tmp_path.iterdir())
    with pytest.raises(GlassError, match=re.escape(says)) as caught:
        open_output(path, resume=resume)
    assert "\n" not in str(caught.value)
    assert sorted(each.name for each in tmp_path.iterdir()) == before


FOREIGN = {
    "deeply nested": b"[" * 100_000,
    "deeply nested in an object": b'{"schema": 1, "path": ' + b"[" * 100_000 + b"\n",
    "a long line": b'{"schema": 1, "path": "' + b"x" * (1 << 26) + b'"}\n',
    "null bytes": bytes(1000) + b"\n",
    "no UTF-8": b'{"schema": 1, "path": "\xff\xfe"}\n',
    "a huge number": b'{"schema": 1' + b"0" * 5000 + b"}\n",
    "no path": b'{"schema": 1}\n',
    "a path that is none": b'{"schema": 1, "path": ["a"]}\n',
    "a SHA-256 that is none": b'{"schema": 1, "path": "a", "sha256": ["a"]}\n',
    "a Parquet file": b"PAR1\x15\x04\x15\x10PAR1",
}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".parquet.jsonl"])
@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_something_else_is_refused_in_one_line_and_left(content: bytes, suffix: str, tmp_path: Path) -> None:
    """The last suffix is that of the journal beside a Parquet file."""
    file = tmp_path / f"r{suffix}"
    file.write_bytes(content)
    with pytest.raises(GlassError) as caught:
        open_output(tmp_path / ("r.parquet" if "parquet" in suffix else file.name), resume=True)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert str(file) in str(caught.value)
    assert file.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_a_parquet_file_whose_rows_are_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with open_output(path, resume=False) as out:
        out.add(result("a"))
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)
    path.write_bytes(content)
    with pytest.raises(GlassError, match=r"r\.parquet"):
        open_output(path, resume=True)
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["r.parquet"]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["r", "link to r", "other name of r"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_second_writer_is_refused_with_the_first_s_process(
    suffix: str, name: str, resume: bool, tmp_path: Path
) -> None:
    path = tmp_path / f"r{suffix}"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.glass_rt.results.test_output_targets import open_output, result\n"
        "with open_output(Path(sys.argv[1]), resume=False) as out:\n"
        "    out.add(result('first'))\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
        "    out.add(result('last'))\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert first.stdout is not None
    assert first.stdout.readline() == b"ready\n"
    journal = tmp_path / "r.parquet.jsonl" if suffix == ".parquet" else path
    second = tmp_path / f"s{suffix}"
    if name == "r":
        second = path
    else:
        beside = second.with_name(second.name + ".jsonl") if suffix == ".parquet" else second
        beside.symlink_to(journal.name) if name == "link to r" else os.link(journal, beside)
    try:
        with pytest.raises(UsageError, match=f"is being written by process {first.pid}; wait until it has ended"):
            open_output(second, resume=resume)
    finally:
        first.communicate(b"", timeout=60)
    assert first.returncode == 0
    assert names_in(path) == ["first", "last"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_lock_dies_with_the_process(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"r{suffix}"
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from tests.glass_rt.results.test_output_targets import open_output, result\n"
        f"out = open_output(Path({str(path)!r}), resume=False)\n"
        "out.add(result('first'))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with open_output(path, resume=True) as out:
        assert out.holds("first")
        out.add(result("last"))
    assert names_in(path) == ["first", "last"]


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("mine\n")
    other.replace(path)


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def act(path: Path) -> None:
        path.unlink()
        make(path)

    return act


def overwritten(path: Path) -> None:
    path.write_text(1000 * "mine\n")


def appended_to(path: Path) -> None:
    with path.open("a") as file:
        file.write("mine\n")


LOSSES: dict[str, tuple[Callable[[Path], object], str]] = {
    "deleted": (Path.unlink, r"was deleted while .* its rows are in (\S+), and"),
    "replaced": (replaced, r"was replaced by another file while .* its rows are in (\S+), and"),
    "replaced by a folder": (replaced_by(Path.mkdir), r"was replaced .* its rows are in (\S+), and"),
    "replaced by a pipe": (replaced_by(os.mkfifo), r"was replaced .* its rows are in (\S+), and"),
    "moved": (lambda path: path.rename(path.with_name("moved.jsonl")), r"was moved to (\S+) while"),
    "cut": (lambda path: os.truncate(path, 3), r"was cut from \d+ to 3 bytes"),
    "emptied": (lambda path: os.truncate(path, 0), r"was cut from \d+ to 0 bytes"),
    "overwritten": (overwritten, "was changed by another program"),
    "appended to": (appended_to, "was changed by another program"),
}


@pytest.mark.parametrize("moment", ["before a row", "after the last row"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_noticed_and_the_rows_are_where_the_error_says(
    loss: str, suffix: str, moment: str, tmp_path: Path
) -> None:
    act, says = LOSSES[loss]
    path = tmp_path / f"r{suffix}"
    file = tmp_path / "r.parquet.jsonl" if suffix == ".parquet" else path
    with pytest.raises(OutputLost, match=says) as caught, open_output(path, resume=False) as out:
        out.add(result("a"))
        out.add(result("b"))
        act(file)
        if moment == "before a row":
            out.add(result("c"))
    assert str(file) in str(caught.value)
    found = re.search(says, str(caught.value))
    assert found is not None
    for where in found.groups():
        names = (
            names_in(Path(where).rename(tmp_path / f"found{file.suffix}"))
            if suffix == ".csv"
            else names_in(Path(where))
        )
        assert names == ["a", "b"]
    if loss == "replaced":
        assert file.read_text() == "mine\n"


def other_parquet(path: Path) -> None:
    pq.write_table(pa.table({"mine": [1]}), path.with_name("other"))
    path.with_name("other").replace(path)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (Path.unlink, r"was deleted while this run lasted; all rows are in (\S+)$"),
        (other_parquet, r"was replaced by another file while this run lasted; all rows are in (\S+)$"),
        (lambda path: os.truncate(path, 10), r"was changed by another program .* rows of this run are in (\S+)$"),
    ],
)
def test_a_parquet_file_that_goes_while_it_is_resumed_is_noticed(
    act: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.parquet"
    with open_output(path, resume=False) as out:
        out.add(result("a"))
    with pytest.raises(OutputLost, match=says) as caught, open_output(path, resume=True) as out:
        out.add(result("b"))
        act(path)
    found = re.search(says, str(caught.value))
    assert found is not None
    assert names_in(Path(found[1])) == (["b"] if "this run are" in says else ["a", "b"])


def test_a_parquet_file_that_another_program_makes_is_left(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with (
        pytest.raises(OutputLost, match=r"was made by another program .* in (\S+)$"),
        open_output(path, resume=False) as out,
    ):
        out.add(result("a"))
        path.write_text("mine")
    assert path.read_text() == "mine"
    assert names_in(tmp_path / "r.rescued-1.parquet") == ["a"]


def test_a_folder_that_goes_leaves_the_rows_in_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputLost, match=r"r\.rescued-1\.jsonl"), open_output(folder / "r.jsonl", resume=False) as out:
        out.add(result("a"))
        (folder / "r.jsonl").unlink()
        folder.rmdir()
    assert names_in(tmp_path / "r.rescued-1.jsonl") == ["a"]


def test_a_link_to_a_file_that_is_not_there_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.symlink_to("target.jsonl")
    with open_output(path, resume=False) as out:
        out.add(result("a"))
    assert names_in(tmp_path / "target.jsonl") == ["a"]
    assert path.is_symlink()
