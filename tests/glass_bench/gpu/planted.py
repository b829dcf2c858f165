"""A step of the GPU kit that has a fault on purpose: `main` is what the kit's process of a step runs."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path


def main(output: str, _scale: float, kind: str, figures: str, before: str) -> None:
    """`figures` is the file that a step with right numbers leaves, or one with a wrong number; `before` counts steps."""
    report = Path(output).parents[1] / "report.json"
    reported = len(json.loads(report.read_text())["steps"]) if report.exists() else 0
    if reported != int(before):
        raise RuntimeError(f"{reported} steps are on disk, of {before}")
    if kind == "garbage":
        sys.stdout.buffer.write(b"\x1b[2J\xff\xfe```\n" * 3)
        Path(output).write_bytes(b'{"opened": {"found": \xff\x00')
        return
    shutil.copy(figures, output)
    if kind == "crash":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()
    if kind == "hang":
        time.sleep(3600)
