"""What a job's own Ray finds in the environment, and that none of it stays."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest

from glass_rt.bulk.own_ray import check_open_files, closed_in
from glass_rt.errors import GlassError
from glass_rt.machine.telemetry import ALLOWED_BY

NAMES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR", "RAY_USAGE_STATS_ENABLED", ALLOWED_BY)


@pytest.fixture(autouse=True)
def _without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what is set here goes with the test
        monkeypatch.delenv(name)


def test_a_token_lives_as_long_as_the_job() -> None:
    tokens = []
    for _ in range(2):
        with closed_in():
            tokens.append(os.environ["RAY_AUTH_TOKEN"])
            assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert len({*tokens}) == 2
    assert {len(token) for token in tokens} == {64}


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_of_the_user_s_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "mine")
    before = dict(os.environ) | {"RAY_USAGE_STATS_ENABLED": "0"}
    with closed_in():
        assert {key: value for key, value in os.environ.items() if key != "RAY_TMPDIR"} == before


def test_ray_gets_a_folder_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with closed_in():
        assert Path(os.environ["RAY_TMPDIR"]).is_dir()
    assert "RAY_TMPDIR" not in os.environ


def test_usage_statistics_may_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED_BY, "1")
    with closed_in():
        assert "RAY_USAGE_STATS_ENABLED" not in os.environ


def test_too_few_open_files_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    with pytest.raises(GlassError, match="this process may have 64: ulimit -n"):
        check_open_files()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 4096))
    check_open_files()
