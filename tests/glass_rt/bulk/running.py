"""`glass-rt bulk` as a process that tests watch, and kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PATIENCE_S = 300


def start_bulk(*arguments: object, planted: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """The command, started; `planted` stands first on the path of every process of the job.

    It leads a process group of its own, as a command typed in a terminal does.
    """
    if planted is not None:
        environment["PYTHONPATH"] = str(planted)
    return subprocess.Popen(
        [sys.executable, "-m", "glass_rt", "bulk", *map(str, arguments), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment, start_new_session=True,
    )  # fmt: skip


def finish(job: subprocess.Popen[str], code: int) -> dict[str, Any]:
    """The job's standard output as JSON, and its standard error, once it ended with that exit code."""
    out, err = job.communicate(timeout=PATIENCE_S)
    assert job.returncode == code, err
    assert "Traceback" not in err
    said: dict[str, Any] = json.loads(out) if out else {}
    return {**said, "stderr": err}


def run_bulk(*arguments: object, code: int = 0, planted: Path | None = None, **environment: str) -> dict[str, Any]:
    """Runs the command to its end."""
    return finish(start_bulk(*arguments, planted=planted, **environment), code)


def rows_of(target: Path) -> list[dict[str, Any]]:
    """All rows of a job's output, as any reader of Parquet folders finds them."""
    table = pq.read_table(target)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def parts_of(target: Path) -> list[Path]:
    return sorted(target.glob("part-*.parquet"))


def wait_until(fact: Callable[[], object], job: subprocess.Popen[str] | None = None) -> None:
    """Waits for a fact; fails where the job or the time ends before."""
    end = time.monotonic() + PATIENCE_S
    while not fact():
        assert job is None or job.poll() is None, job.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def descendants(pid: int) -> dict[int, str]:
    """Processes below a process, and their command lines."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # gone meanwhile
        children.setdefault(parent, []).append(int(stat.parent.name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            waiting.append(child)
    return found


def workers_of(job: subprocess.Popen[str]) -> list[int]:
    """The processes of the job's workers, Ray's actors."""
    return [pid for pid, command in descendants(job.pid).items() if "ray::MapWorker" in command]


def detectors_of(job: subprocess.Popen[str]) -> list[int]:
    """The processes that hold the workers' detectors."""
    return [pid for pid, command in descendants(job.pid).items() if "glass_rt.bulk.judge_process" in command]


def alive(pids: list[int]) -> list[int]:
    """Those that still run, zombies left out."""
    found = []
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
        except OSError:
            continue
    return found
