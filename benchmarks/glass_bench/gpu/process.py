"""One step as its own process with its own limit: what it found, how it ended, and whether that is right."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from glass_bench.gpu.checks import Outcome, outcome_of
from glass_bench.gpu.steps import Step

LAST_LINES, LAST_BYTES = 15, 1 << 16
PATIENCE_S = 5.0  # for a killed process: one that hangs in the driver may not end at all


def run_step(step: Step, folder: Path, scale: float, limit_s: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """The step's row of the report: state, reasons, seconds, figures, and its last words where it failed.

    The step keeps its figures in a file of its own under `folder`, and writes to `log.txt` there what it prints.
    `environment` is added to this process's.
    """
    figures_file = folder / "steps" / f"{step.name.replace(': ', ' ').replace(' ', '-')}.json"
    figures_file.parent.mkdir(parents=True, exist_ok=True)
    figures_file.unlink(missing_ok=True)
    began, log = monotonic(), folder / "log.txt"
    command = [sys.executable, "-m", "glass_bench.gpu.step", step.module, str(figures_file), str(scale)]
    with log.open("ab") as out:
        out.write(f"\n==== step {step.name}\n".encode())
        out.flush()
        position = out.tell()
        process = subprocess.Popen(
            [*command, *step.arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env={**os.environ, **environment},
        )  # fmt: skip
        ended = _ended(process, limit_s)
    figures, outcome = _found(figures_file, step, ended)
    row: dict[str, Any] = {
        "name": step.name, "title": step.title, "kind": step.kind or step.name, "state": outcome.state,
        "why": list(outcome.why), "ended": ended, "seconds": round(monotonic() - began, 1), "figures": figures,
    }  # fmt: skip
    if outcome.state == "failed":
        row["last_lines"] = _last_lines(log, position)
    return row


def _ended(process: subprocess.Popen[bytes], limit_s: float) -> int | str:
    """Its exit status, negative for a signal, or that it was stopped; its children are gone too."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return f"stopped after {limit_s:g} s"
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)


def _found(file: Path, step: Step, ended: int | str) -> tuple[Any, Outcome]:
    """The figures, {} where there are none, and what they amount to."""
    figures, trouble = _read(file)
    outcome = outcome_of(figures, step.checks)
    reasons = [trouble] if trouble else []
    if ended != 0:
        reasons.insert(0, ended if isinstance(ended, str) else f"its process ended with {_status(ended)}")
        reasons += [words for words in outcome.why if outcome.state == "failed" and figures]
        return figures, Outcome("failed", tuple(reasons))
    return figures, Outcome("failed", tuple(reasons)) if trouble else outcome


def _read(file: Path) -> tuple[Any, str]:
    """The figures, and what is wrong with the file."""
    try:
        figures = json.loads(file.read_bytes(), parse_constant=str)  # NaN is text in a report
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"its figures are no JSON ({error})"
    return (figures, "") if isinstance(figures, dict) else ({}, "its figures are no JSON object")


def _status(ended: int) -> str:
    """`-6 (SIGABRT)`."""
    with suppress(ValueError):
        return f"{ended} ({signal.Signals(-ended).name})"
    return str(ended)


def _last_lines(log: Path, position: int) -> list[str]:
    with log.open("rb") as written:
        written.seek(max(position, log.stat().st_size - LAST_BYTES))
        return written.read().decode(errors="replace").splitlines()[-LAST_LINES:]
