"""What was hashed once is not hashed again while it is the same, and always where the bundle is pinned."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glass_rt.bundle import checked_files, hashed_files
from glass_rt.bundle.checked_files import CheckedFiles
from glass_rt.bundle.hashed_files import MOST_HELD, SMALLEST, HashedFiles
from glass_rt.bundle.manifest import FileEntry
from glass_rt.errors import BundleInvalid
from glass_rt.machine.regular_file import RegularFile

CONTENT = b"weights." * (SMALLEST // 8)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[HashedFiles]:
    """One for the test alone, which files enter at once."""
    alone = HashedFiles()
    monkeypatch.setattr(checked_files, "hashed_files", lambda: alone)
    monkeypatch.setattr(hashed_files, "SETTLED_NS", -(1 << 60))
    yield alone
    for file, _ in alone._held.values():
        file.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    return path


def bytes_read(path: Path, monkeypatch: pytest.MonkeyPatch, *, pinned: bool = False) -> int:
    """Compares the file as its bundle does, and counts what is read of it."""
    counted = 0
    chunks = RegularFile.chunks

    def counting(self: RegularFile, most: int, size: int = 1 << 20) -> Iterator[bytes]:
        nonlocal counted
        for chunk in chunks(self, most, size):
            counted += len(chunk)
            yield chunk

    entries = {path.name: FileEntry(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())}
    with monkeypatch.context() as patched:
        patched.setattr(RegularFile, "chunks", counting)
        CheckedFiles(path.parent, entries, pinned=pinned).check([path.name])
    return counted


def test_the_same_file_is_read_once(file: Path, registry: HashedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [bytes_read(file, monkeypatch) for _ in range(3)] == [len(CONTENT), 0, 0]


def test_under_a_pin_it_is_read_every_time(file: Path, registry: HashedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_read(file, monkeypatch)
    assert [bytes_read(file, monkeypatch, pinned=True) for _ in range(2)] == [len(CONTENT)] * 2


def rewritten(file: Path) -> None:
    file.write_bytes(CONTENT)


def replaced(file: Path) -> None:
    (file.parent / "new").write_bytes(CONTENT)
    (file.parent / "new").replace(file)


def altered(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"W")


@pytest.mark.parametrize("change", [rewritten, replaced, altered])
def test_a_file_that_was_touched_is_read_again(
    file: Path, registry: HashedFiles, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    bytes_read(file, monkeypatch)
    change(file)
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000_000))  # clocks of file systems may be slower than tests
    if change is altered:
        with pytest.raises(BundleInvalid, match="was altered"):
            bytes_read(file, monkeypatch)
    else:
        assert bytes_read(file, monkeypatch) == len(CONTENT)


def test_a_file_that_was_just_written_is_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = HashedFiles()
    monkeypatch.setattr(checked_files, "hashed_files", lambda: alone)
    assert [bytes_read(file, monkeypatch) for _ in range(2)] == [len(CONTENT)] * 2


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are not listed here")
def test_deleted_files_and_old_ones_are_let_go(
    tmp_path: Path, registry: HashedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> int:
        links = list(Path("/proc/self/fd").iterdir())  # one of them was for listing
        return sum(str(link.readlink()).startswith(str(tmp_path)) for link in links if os.path.lexists(link))

    for number in range(MOST_HELD + 2):
        path = tmp_path / str(number)
        path.write_bytes(CONTENT)
        bytes_read(path, monkeypatch)
    assert held() == MOST_HELD
    for path in tmp_path.iterdir():
        path.unlink()
    last = tmp_path / "last"
    last.write_bytes(CONTENT)
    bytes_read(last, monkeypatch)
    assert held() == 1
