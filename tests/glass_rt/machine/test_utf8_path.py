"""Libraries that take text open files whose folders have names that are no text."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from glass_rt.machine.utf8_path import utf8_path


@pytest.mark.parametrize("name", ["plain", "größe"])
def test_names_that_are_text_stay(name: str, tmp_path: Path) -> None:
    with utf8_path(tmp_path / name) as path:
        assert path == str(tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such paths")
def test_other_names_get_a_path_that_is_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"gr\xf6\xdfe")
    folder.mkdir()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with utf8_path(folder / "engine") as path:
        Path(path.encode().decode()).write_bytes(b"content")
    assert (folder / "engine").read_bytes() == b"content"
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
