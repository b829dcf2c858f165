"""Files of every kind that users name are read up to a bound."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest

from glass_rt.machine.named_file import read_named, read_named_text, read_stream

CONTENTS = [b"", b"short", b"x" * 4096, b"y" * 4097, os.urandom(3 << 20)]


def give(content: bytes, pipe: Path) -> threading.Thread:
    """Writes into a pipe; a reader that leaves early is no fault."""

    def write() -> None:
        with suppress(BrokenPipeError):
            pipe.write_bytes(content)

    os.mkfifo(pipe)
    writer = threading.Thread(target=write)
    writer.start()
    return writer


@pytest.mark.parametrize("content", CONTENTS, ids=len)
def test_files_pipes_and_streams_are_read_whole(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    writer = give(content, tmp_path / "pipe")
    first: list[bytes] = []
    most = max(1, len(content))
    assert read_named(tmp_path / "file", most, first.append) == content
    assert read_named(tmp_path / "pipe", most, first.append) == content
    assert read_stream(BytesIO(content).read, most, first.append) == content
    assert first == [content[:4096]] * 3
    writer.join()


def test_no_more_is_read_than_the_bound(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    writer = give(b"x" * (3 << 20), tmp_path / "pipe")
    for name, most in (("file", 4999), ("sparse", 1 << 30), ("pipe", 1 << 20)):
        with pytest.raises(OSError, match="holds more than"):
            read_named(tmp_path / name, most)
    writer.join()


def test_what_is_not_wanted_by_its_first_bytes_is_not_read(tmp_path: Path) -> None:
    def refuse(first: bytes) -> None:
        raise LookupError(len(first))

    writer = give(b"x" * (3 << 20), tmp_path / "pipe")
    with pytest.raises(LookupError, match="4096"):
        read_named(tmp_path / "pipe", 1 << 30, refuse)
    writer.join()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/dev/zero", "is a device"),
        ("/dev/null", "is a device"),
        ("/", "Is a directory"),
        ("/proc/self/absent", "No such file"),
    ],
)
def test_devices_folders_and_nothing_are_refused(path: str, words: str) -> None:
    with pytest.raises(OSError, match=words):
        read_named_text(path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_files_without_a_size_are_read(tmp_path: Path) -> None:
    assert read_named_text("/proc/self/status").startswith("Name:")
