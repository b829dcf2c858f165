"""Runs the steps, each as its own process with its own limit, and keeps what every one of them found.

    python -m gpu_hour.run FOLDER [--only 0,1,5a] [--scale 0.05] [--deadline 400]

Writes FOLDER/results.json, rewritten whole after every step, and FOLDER/log.txt. A step that fails or runs past its
limit keeps the figures it had, with the last lines of its stderr. `--scale` below 1 makes everything smaller: for a
try on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from gpu_hour.record import write_json

LAST_LINES = 15


@dataclass(frozen=True)
class Step:
    """A module of this package, what it is told, and the seconds it may take."""

    name: str
    module: str
    limit_s: float
    arguments: tuple[str, ...] = ()


STEPS = (
    Step("0", "step0_machine", 40),
    Step("1", "step1_seam", 50),
    Step("2", "step2_views", 75),
    Step("4", "step4_precision", 100),
    Step("3", "step3_backend", 80),
    Step("3b", "step3_backend", 40, ("short",)),
    Step("5a", "step5_decode", 60, ("exactness",)),
    Step("5d", "step5_decode", 60, ("drift",)),
    Step("5b", "step5_decode", 60, ("throughput",)),
    Step("5c", "step5_decode", 20, ("damage",)),
    Step("7", "step7_end_to_end", 75),
    Step("8", "step8_device_decode", 45),
    Step("6s", "step6_processor", 60, ("scaling",)),
    Step("6d", "step6_processor", 45, ("decoders",)),
    Step("6", "step6_processor", 60),
    Step("2s", "step2_views", 60, ("sanitizer",)),
    Step("4c", "step4_precision", 60, ("compiled",)),
)


def run_step(step: Step, scale: float, limit_s: float, log: Path) -> dict[str, Any]:
    """The step's figures, how it ended and how long it took."""
    began = monotonic()
    with tempfile.TemporaryDirectory() as folder, log.open("ab") as out:
        figures = Path(folder) / "figures.json"
        out.write(f"\n==== step {step.name}\n".encode())
        out.flush()
        position = out.tell()
        command = [sys.executable, "-m", f"gpu_hour.{step.module}", str(figures), str(scale), *step.arguments]
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        try:
            ended: int | str = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            ended = f"stopped after {limit_s:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children too
            process.wait()
        found = json.loads(figures.read_text()) if figures.exists() else {}
    result = {"ended": ended, "seconds": round(monotonic() - began, 1), "figures": found}
    if ended != 0:
        with log.open("rb") as written:
            written.seek(position)
            result["last_lines"] = written.read().decode(errors="replace").splitlines()[-LAST_LINES:]
    return result


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="names of steps, such as 0,1,5a; all in their order by default")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--deadline", type=float, default=float("inf"), help="seconds; later steps are left out")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else [step.name for step in STEPS]
    began, results = monotonic(), dict[str, Any]()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for step in sorted((step for step in STEPS if step.name in wanted), key=lambda step: wanted.index(step.name)):
        left_s = arguments.deadline - (monotonic() - began)
        if left_s < 5:
            results[step.name] = {"ended": "left out: no time"}
        else:
            results[step.name] = run_step(
                step, arguments.scale, min(step.limit_s, left_s), arguments.folder / "log.txt"
            )
        write_json(arguments.folder / "results.json", results)
        ended, seconds = results[step.name]["ended"], results[step.name].get("seconds", 0)
        print(f"step {step.name}: ended {ended}, {seconds} s", flush=True)
        for line in results[step.name].get("last_lines", ()):
            print(f"    {line}")
        for name, part in results[step.name].get("figures", {}).items():
            if isinstance(part, dict) and "failed" in part:
                print(f"    {name}: {part['failed'][:600]}")


if __name__ == "__main__":
    main()
