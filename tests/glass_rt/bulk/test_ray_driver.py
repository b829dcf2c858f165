"""The choice of the process that drives Ray, and a driver that dies; `tests/behaviour/test_bulk.py` runs a real one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glass_rt.bulk import ray_driver
from glass_rt.bulk.on_ray import Pool
from glass_rt.bulk.parts import PartSettings
from glass_rt.bulk.python_process import start_python
from glass_rt.bulk.stores import locate
from glass_rt.errors import BackendError, UsageError
from glass_rt.options import DetectOptions, RunOptions

SETTINGS = PartSettings("bundle", DetectOptions(), RunOptions(), locate("/out"))


def plant_driver(monkeypatch: pytest.MonkeyPatch, folder: Path, *lines: str) -> None:
    """Has the module of those lines, which has a Connection `here`, drive Ray in place of ours."""
    receive = ("import os", "from multiprocessing.connection import Connection", "def main(descriptor):")
    body = ("here = Connection(descriptor)", "settings, units, pool = here.recv()", *lines)
    (folder / "planted_driver.py").write_text("\n".join([*receive, *(f"    {line}" for line in body)]))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(ray_driver, "start_python", lambda _, **options: start_python("planted_driver", **options))


def drive() -> list[Any]:
    return list(ray_driver.drive_ray(SETTINGS, [], Pool()))


@pytest.fixture
def strange_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "glass_rt", "bulk", "caf\udce9.jpg"])
    monkeypatch.setattr(ray_driver, "ray_is_connected", lambda: False)


@pytest.mark.parametrize(
    ("arguments", "connected", "here"),
    [
        (["python", "café.jpg"], False, True),
        (["python", "caf\udce9.jpg"], False, False),
        (["python", "caf\udce9.jpg"], True, True),  # Ray has recorded the command line already
    ],
)
def test_ray_is_driven_here_where_it_can_record_the_command_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], connected: bool, here: bool
) -> None:
    def run_here(*_: object) -> Iterator[str]:
        yield "here"

    def run_elsewhere(*_: object) -> Iterator[str]:
        yield "elsewhere"

    monkeypatch.setattr(sys, "orig_argv", arguments)
    monkeypatch.setattr(ray_driver, "ray_is_connected", lambda: connected)
    monkeypatch.setattr(ray_driver, "run_on_ray", run_here)
    monkeypatch.setattr(ray_driver, "_run_in_driver", run_elsewhere)
    assert drive() == ["here" if here else "elsewhere"]


@pytest.mark.usefixtures("strange_command_line")
def test_a_driver_gives_its_tables_and_its_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refuse = "from glass_rt.bulk.messages import Refused; here.send(Refused('no engine', 'usage'))"
    plant_driver(monkeypatch, tmp_path, "here.send('a table')", refuse)
    tables = ray_driver.drive_ray(SETTINGS, [], Pool())
    assert next(tables) == "a table"
    with pytest.raises(UsageError, match="no engine"):
        next(tables)


@pytest.mark.usefixtures("strange_command_line")
def test_a_driver_that_dies_is_an_error_that_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant_driver(monkeypatch, tmp_path, "os._exit(9)")
    with pytest.raises(BackendError, match="drives Ray has ended; --resume"):
        drive()


@pytest.mark.usefixtures("strange_command_line")
def test_a_driver_learns_that_its_job_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wait = ("here.send('a table')", "try: here.recv()", f"except EOFError: open({str(tmp_path / 'ended')!r}, 'w')")
    plant_driver(monkeypatch, tmp_path, *wait)
    tables = ray_driver.drive_ray(SETTINGS, [], Pool())
    next(tables)
    tables.close()  # type: ignore[attr-defined]
    assert (tmp_path / "ended").exists()
