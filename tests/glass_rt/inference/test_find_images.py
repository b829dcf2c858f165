"""What the arguments of a command mean: files, folders and patterns, hostile ones too."""

import os
import shutil
from pathlib import Path

import pytest

from glass_rt.inference.find_images import find_images
from glass_rt.inference.passed_over import PassedOver
from glass_rt.results.verdict import Failure


def found(*arguments: object, passed_over: PassedOver | None = None) -> list[str]:
    """Paths, or path and reason of failures."""
    items = find_images([str(argument) for argument in arguments], passed_over)
    return [f"{item.path}: {item.error}" if isinstance(item, Failure) else item for item in items]


def test_in_folders_only_files_count_and_links_to_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "c.png").symlink_to("gone.png")  # judged, so that its row says why not
    os.mkfifo(tmp_path / "d.png")
    os.mkfifo(tmp_path / "pipe")  # no image by its name: its content must not be looked at
    (tmp_path / "null.png").symlink_to(os.devnull)
    assert found(tmp_path) == [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]


def test_a_path_that_several_arguments_mean_comes_once_in_its_first_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photos/a.png", "photos/b.png", "photos/deep/a.png", "c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("photos/deep")
    monkeypatch.chdir(tmp_path)
    arguments = ("photos/b.png", "./photos//b.png", "photos/*.png", "photos/", "c.png", "link/../a.png", "gone", "gone")
    paths = ["photos/b.png", "photos/a.png", "photos/deep/a.png", "c.png", "link/../a.png", "gone"]
    assert found(*arguments) == paths


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


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    album, elsewhere = tmp_path / "album", tmp_path / "elsewhere"
    for folder in (album, elsewhere):
        folder.mkdir()
        (folder / "a.png").touch()
    (album / "link").symlink_to(elsewhere)
    (album / "round").symlink_to(album)
    (elsewhere / "back").symlink_to(album)
    names = [str(album / name) for name in ("a.png", "link/a.png")]
    assert found(album) == names
    assert found(tmp_path / "album/**/*.png") == names
    (tmp_path / "top").symlink_to(album)
    assert found(tmp_path / "top") == [name.replace("/album/", "/top/") for name in names]


def test_files_that_look_like_images_and_are_not_read_are_counted(tmp_path: Path) -> None:
    for name in ("a.jxl", "b.PSD", "c.jxl", "d.svg", ".hidden.jxl", "notes.txt", "e.jp2"):
        (tmp_path / name).write_bytes(b"anything")
    (tmp_path / "raw.dng").write_bytes(b"II*\0" + bytes(60))  # like a TIFF, whose first picture is a thumbnail
    (tmp_path / "named wrongly.psd").write_bytes(b"\xff\xd8\xff" + bytes(60))
    passed_over = PassedOver()
    assert found(tmp_path, passed_over=passed_over) == [str(tmp_path / "named wrongly.psd")]
    assert passed_over.remark() == (
        "6 files were passed over, images of kinds that are not read: 2 .jxl, 1 .psd, 1 .svg, 1 .jp2, 1 .dng "
        f"(first {tmp_path / 'a.jxl'}); convert them to TIFF or PNG"
    )
    assert found(tmp_path / "a.jxl") == [str(tmp_path / "a.jxl")]  # named, it gets its row
    assert not PassedOver()
