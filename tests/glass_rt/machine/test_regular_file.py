"""Files are opened without waiting and read through one descriptor; private copies cannot be written."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glass_rt.machine.private_copy import private_copy
from glass_rt.machine.regular_file import RegularFile, read_regular


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_takes_the_name_is_not_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    file = RegularFile.open(path)
    (tmp_path / "other").write_bytes(b"second")
    (tmp_path / "other").replace(path)
    assert (file.size, file.read(100), file.read(2), file.read_at(1, 3)) == (5, b"first", b"fi", b"irs")
    file.close()
    file.close()


def test_a_file_in_an_opened_folder_is_found_though_the_folder_goes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"content")
    folder = os.open(tmp_path / "a", os.O_RDONLY)
    (tmp_path / "a").rename(tmp_path / "b")
    assert RegularFile.open(tmp_path / "a" / "file", "file", folder).read(100) == b"content"
    os.close(folder)


@pytest.mark.parametrize("name", ["absent", "a" * 300, "nul\0", "\ud800"])
def test_names_that_no_file_has_are_an_os_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"No such file|too long"):
        RegularFile.open(tmp_path / name)


def test_only_so_much_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular(tmp_path / "file", 4)


@pytest.mark.skipif(sys.platform != "linux", reason="memory files are Linux's")
def test_a_private_copy_cannot_be_written_cut_or_grown(tmp_path: Path) -> None:
    copy = private_copy(tmp_path / "file", [b"first", b"second"])
    assert copy.library_path is not None
    assert Path(copy.library_path).read_bytes() == copy.read(100) == b"firstsecond"
    for change in (
        lambda: os.pwrite(copy.descriptor, b"x", 0),
        lambda: os.truncate(copy.descriptor, 3),
        lambda: os.truncate(copy.descriptor, 300),
        lambda: Path(str(copy.library_path)).write_bytes(b"x"),
    ):
        with pytest.raises(PermissionError):
            change()
    assert copy.read(100) == b"firstsecond"


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted on Linux")
def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    gc.collect()
    before = descriptors()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a named pipe; expected a file"):
        RegularFile.open(tmp_path / "pipe")

    def failing() -> Iterator[bytes]:
        yield b"first"
        raise ValueError("the second piece")

    with pytest.raises(ValueError, match="the second piece"):
        private_copy(tmp_path / "file", failing())
    (tmp_path / "file").write_bytes(b"1")
    RegularFile.open(tmp_path / "file")
    gc.collect()
    assert descriptors() == before
