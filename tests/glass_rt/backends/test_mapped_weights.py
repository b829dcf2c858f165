"""A weights file in memory: its bytes can always be read, and its pages can be released."""

import re
import sys
from pathlib import Path

import pytest

from glass_rt.backends.mapped_weights import MappedWeights


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
