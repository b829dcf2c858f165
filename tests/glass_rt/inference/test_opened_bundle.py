"""What is done while a bundle is opened, so that the first images do not wait for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import BackendError
from glass_rt.inference import opened_bundle
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.options import RunOptions
from tests.bench_zoo import write_bundle


class Compiles:
    """An engine that compiles at its first runs."""

    inputs: tuple[Any, ...] = ()
    outputs: tuple[Any, ...] = ()

    def __init__(self, error: BackendError | None = None) -> None:
        self._error = error
        self.warmed, self.closed = 0, False

    def warm(self) -> int:
        self.warmed += 1
        if self._error is not None:
            raise self._error
        return 2

    def run(self, feeds: Any) -> Any:
        raise AssertionError("nothing is judged yet")

    def close(self) -> None:
        self.closed = True


def test_engines_are_warm_when_a_bundle_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So a server that is ready, whose canary is judged after this, has nothing left to compile but what is said."""
    engines = {"global": Compiles(), "local": Compiles()}
    monkeypatch.setattr(opened_bundle, "open_engines", lambda _bundle, _run: engines)
    with caplog.at_level("INFO", "glass_rt"):
        opened = OpenedBundle.open(Bundle.open(write_bundle(tmp_path / "tiny")), RunOptions())
    assert [engine.warmed for engine in engines.values()] == [1, 1]
    for role in engines:
        assert f"the {role} engine is warm after" in caplog.text
    assert caplog.text.count("2 batch sizes are left to their first use") == 2
    opened.close()


def test_an_engine_that_fails_when_it_is_warmed_up_leaves_none_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {"global": Compiles(), "local": Compiles(BackendError("no kernel"))}
    monkeypatch.setattr(opened_bundle, "open_engines", lambda _bundle, _run: engines)
    with pytest.raises(BackendError, match="no kernel"):
        OpenedBundle.open(Bundle.open(write_bundle(tmp_path / "tiny")), RunOptions())
    assert all(engine.closed for engine in engines.values())
