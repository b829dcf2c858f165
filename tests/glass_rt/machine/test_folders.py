"""What lies below a folder: links are followed, each folder comes once."""

from __future__ import annotations

from pathlib import Path

import pytest

from glass_rt.machine.folders import walk

# Folders and links (name: target) beside each other, and the files that a walk of `album` finds. Every folder holds `f`.
TREES: dict[str, tuple[tuple[str, ...], dict[str, str], tuple[str, ...]]] = {
    "no links": (("album/b", "album/a"), {}, ("f", "a/f", "b/f")),
    "a link to a folder outside": (("album", "else"), {"album/link": "else"}, ("f", "link/f")),
    "in the order of the names, once": (("album/m", "else/s"), {"album/a": "else", "album/z": "else/s"}, ("f", "a/f", "m/f", "z/f")),
    "links of links": (("album", "x", "y"), {"album/a": "x", "x/b": "y"}, ("f", "a/f", "a/b/f")),
    "a circle": (("album/a",), {"album/a/back": "album"}, ("f", "a/f")),
    "a circle of itself": (("album",), {"album/self": "album"}, ("f",)),
    "a circle outside": (("album", "x", "y"), {"album/a": "x", "x/y": "y", "y/x": "x"}, ("f", "a/f", "a/y/f")),
    "a link that leads above": (("album", "beside"), {"album/up": "."}, ("f", "up/f", "up/beside/f")),
    "a second name of a folder within": (("album/b",), {"album/a": "album/b"}, ("f", "b/f")),
    "two links to one folder": (("album", "x"), {"album/a": "x", "album/b": "x"}, ("f", "a/f")),
    "a link to a part of what another leads to": (
        ("album", "x/y"), {"album/a": "x/y", "album/b": "x"}, ("f", "a/f", "b/f"),
    ),
    "a link to a hidden folder": (("album/.h",), {"album/a": "album/.h"}, ("f", "a/f")),
    "a dangling link is no folder": (("album",), {"album/a": "absent"}, ("a", "f")),
}  # fmt: skip


@pytest.mark.parametrize("tree", TREES)
def test_links_are_followed_and_no_folder_comes_twice(tree: str, tmp_path: Path) -> None:
    folders, links, expected = TREES[tree]
    (tmp_path / "f").touch()
    for name in folders:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for each in (folder, *folder.parents):
            if each.is_relative_to(tmp_path):
                (each / "f").touch()
    for name, target in links.items():
        (tmp_path / name).symlink_to(tmp_path / target)
    found = [
        str(Path(where, name).relative_to(tmp_path / "album"))
        for where, names in walk(str(tmp_path / "album"))
        for name in names
    ]
    assert found == list(expected)


def test_folders_that_double_at_each_step_end(tmp_path: Path) -> None:
    """Without memory there would be 2 to the power of 40 ways."""
    for number in range(40):
        (tmp_path / str(number)).mkdir()
    for number in range(39):
        for name in ("left", "right"):
            (tmp_path / str(number) / name).symlink_to(tmp_path / str(number + 1))
    assert len(list(walk(str(tmp_path / "0")))) == 40
