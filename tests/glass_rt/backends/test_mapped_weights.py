"""A weights file in memory: its bytes can always be read, and its pages can be released."""

import mmap
import os
import re
import sys
from contextlib import closing
from pathlib import Path

import pytest

from glass_rt.backends import mapped_weights
from glass_rt.backends.mapped_weights import LibraryMapping, MappedWeights
from glass_rt.machine.private_copy import private_copy
from glass_rt.machine.regular_file import RegularFile


def resident_kb(path: Path) -> int:
    """Resident memory of this process that maps the file."""
    mappings = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(encoding="utf-8"))
    sizes = [re.search(r"Rss: +(\d+)", mapping) for mapping in mappings if str(path) in mapping]
    return sum(int(size.group(1)) for size in sizes if size)


@pytest.mark.skipif(sys.platform != "linux", reason="pages are counted, and given back, on Linux")
def test_pages_given_back_are_gone_and_read_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(range(256)) * 4096)  # 1 MiB
    weights = MappedWeights(path)
    before = int(weights.array.sum())
    assert resident_kb(path) == 1024
    weights.give_back()
    assert resident_kb(path) == 0
    assert int(weights.array.sum()) == before == sum(range(256)) * 4096


def test_there_is_no_mapping_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        MappedWeights(tmp_path / "absent.bin")
    (tmp_path / "empty.bin").touch()
    with pytest.raises(ValueError, match="empty file"):
        MappedWeights(tmp_path / "empty.bin")


# Where a mapping is listed: rights, device, inode and path, of which {device}, {inode} and {path} are the file's own.
LISTED = [
    ("r--p {device} {inode} {path}", True),
    ("r--s {device} {inode} {path}", True),
    ("r--p {device} {inode} {path} (deleted)", True),
    ("r--p 00:2f {inode} {path}", True),  # overlay and btrfs: the device is another one than stat's
    ("r--p 7f:7f {inode} /usr/lib/libtbb.so.12", False),  # another file system gave the same number
    ("r--p {device} 4{inode} /usr/lib/libtbb.so.12", False),
    ("r-xp {device} {inode} {path}", False),
    ("rw-p {device} {inode} {path}", False),  # what was written there would be lost
    ("r--p 00:00 0 [vvar]", False),
    ("r--p 00:00 0", False),
]


@pytest.mark.skipif(sys.platform != "linux", reason="mappings are listed on Linux")
@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(("line", "taken"), LISTED, ids=[line for line, _ in LISTED])
def test_pages_of_no_other_file_are_given_back(
    line: str, taken: bool, in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"w" * 8192)
    with closing(private_copy(path, [b"w" * 8192]) if in_memory else RegularFile.open(path)) as file:
        status = os.fstat(file.descriptor)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        rights, *rest = line.format(
            device=device, inode=status.st_ino, path=Path(str(file.library_path)).readlink()
        ).split(maxsplit=1)
        (tmp_path / "maps").write_text(f"7f00-8f00 {rights} 00000000 {rest[0]}\n")
        mapping = LibraryMapping(file)
    monkeypatch.setattr(mapped_weights, "_MAPS", tmp_path / "maps")
    assert mapping._ranges() == ([(0x7F00, 0x8F00)] if taken else [])


@pytest.mark.skipif(sys.platform != "linux", reason="pages are counted, and given back, on Linux")
def test_pages_that_a_library_mapped_are_given_back(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"w" * 8192)
    with closing(RegularFile.open(path)) as file:
        mapped = mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_READ)
        mapping = LibraryMapping(file)
    assert sum(mapped[::4096]) == 2 * ord("w")
    assert resident_kb(path) == 8
    mapping.give_back()
    assert resident_kb(path) == 0
    assert mapped[:] == b"w" * 8192
