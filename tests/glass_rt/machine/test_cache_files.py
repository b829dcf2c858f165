"""Files that may be lost: written where it can be, read where they are whole and one's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glass_rt.machine.cache_files import CACHE_VARIABLE, read_cached, user_cache, user_places, write_cached


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert read_cached([tmp_path / "pipe", tmp_path]) is None
