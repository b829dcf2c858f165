"""Files that may be lost: written where it can be, read where they are whole and one's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glass_rt.machine.cache_files import (
    CACHE_VARIABLE,
    places_for,
    read_cached,
    user_cache,
    user_places,
    why_no_user_cache,
    write_cached,
)


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "a"
    assert write_cached(b"data", [place]) == place
    assert read_cached([place]) == b"data"
    assert place.stat().st_mode & 0o077 == 0
    assert [path.name for path in place.parent.iterdir()] == ["a"]


def test_the_next_place_is_taken_where_one_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    places = [tmp_path / "file" / "a", tmp_path / "folder" / "a"]
    assert write_cached(b"data", places) == places[1]
    assert read_cached(places) == b"data"
    assert write_cached(b"data", places[:1]) is None


@pytest.mark.parametrize("content", [b"", b"short", bytes(40)])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert read_cached([tmp_path / "a"]) is None
    assert read_cached([tmp_path / "absent"]) is None


def test_what_others_may_write_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "a"
    write_cached(b"data", [place])
    place.chmod(0o620)
    assert read_cached([place]) is None


def test_the_users_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert user_cache() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "glass-rt"


@pytest.mark.parametrize("relative", ["", "relative/folder", "~/cache"])
def test_a_general_folder_that_is_relative_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, relative: str
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", relative)
    assert user_cache() == tmp_path / ".cache" / "glass-rt"


@pytest.mark.parametrize(
    ("manifest", "where", "kept"),
    [
        ('{"kind": "bundle"}', "", False),
        ('{"kind": "portable"}', "model", False),
        ('{"kind": "bundle"}', "cache/own", False),  # which a pin does not let be read
        ('{"name": "a web page\'s"}', "", True),
        ("[]", "", True),
        ("{", "", True),
    ],
)
def test_nothing_is_kept_inside_a_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, manifest: str, where: str, kept: bool
) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / where))
    assert user_places("a") == ((tmp_path / where / "a",) if kept else ())
    assert (why_no_user_cache() is None) == kept


@pytest.mark.parametrize("blocked", ["a file", "a link to nowhere"])
def test_where_a_bundle_has_no_cache_the_user_s_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocked: str
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "own"))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    if blocked == "a file":
        (bundle / "cache").write_bytes(b"")
    else:
        (bundle / "cache").symlink_to(tmp_path / "absent" / "absent")
    places = places_for(bundle, "a", ("kind", "a"), pinned=False)
    assert write_cached(b"data", places) == tmp_path / "own" / "kind" / "a"
    assert read_cached(places) == b"data"
    assert places_for(bundle, "a", ("kind", "a"), pinned=True) == (tmp_path / "own" / "kind" / "a",)


def test_a_user_without_a_home_can_name_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)  # in no list of users
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(RuntimeError):
        Path.home()
    assert user_cache() == tmp_path
    assert user_places("a", "b") == (tmp_path / "a" / "b",)
    monkeypatch.delenv(CACHE_VARIABLE)
    assert user_places("a", "b") == ()
    assert why_no_user_cache() == f"this user has no home, and {CACHE_VARIABLE} names no folder"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert read_cached([tmp_path / "pipe", tmp_path]) is None
