"""What the arguments of a command mean: files, folders and patterns, hostile ones too."""

import os
import shutil
from pathlib import Path

import pytest

from glass_rt.inference.find_images import find_images
from glass_rt.results.verdict import Failure


def found(*arguments: object) -> list[str]:
    """Paths, or path and reason of failures."""
    items = find_images([str(argument) for argument in arguments])
    return [f"{item.path}: {item.error}" if isinstance(item, Failure) else item for item in items]


def test_in_folders_only_files_count_and_links_to_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "c.png").symlink_to("gone.png")  # judged, so that its row says why not
    os.mkfifo(tmp_path / "d.png")
    os.mkfifo(tmp_path / "pipe")  # no image by its name: its content must not be looked at
    (tmp_path / "null.png").symlink_to(os.devnull)
    assert found(tmp_path) == [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]


def test_a_folder_that_cannot_be_read_is_a_failure_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "a.png").touch()
    images = find_images([str(tmp_path)])
    assert next(images) == str(tmp_path / "a.png")
    shutil.rmtree(tmp_path / "gone")  # what may not be read takes the same way; root may read all
    (failure,) = images
    assert isinstance(failure, Failure)
    assert failure.path == str(tmp_path / "gone")
    assert str(failure.error) == f"the folder {failure.path} cannot be read: No such file or directory"


def test_a_top_folder_that_cannot_be_read_is_not_called_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert found(tmp_path) == [f"{tmp_path}: the folder {tmp_path} cannot be read: Permission denied"]


def test_an_argument_that_the_system_refuses_costs_its_own_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    for name in (300 * "x", 300 * "x" + "*"):
        assert found(tmp_path / name, tmp_path / "a.png")[-1] == str(tmp_path / "a.png")


def test_a_file_named_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "photo[1].png").touch()
    assert found(tmp_path / "photo[1].png") == [str(tmp_path / "photo[1].png")]
