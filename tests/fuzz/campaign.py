"""Runs the child over many trials, ends it where a file takes too long, and counts what came of them."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import IO, Any

MOST_SECONDS = 15.0  # of processor time a file: what else the machine does is no file's fault
HANG_SECONDS = 120.0  # until a process that says nothing is ended
START_SECONDS = 120.0  # of a child, on a busy machine
SPARE_BYTES = 64 << 20
BUDGET_FACTOR = 1.2
# Trials of one process. Memory that its libraries keep would hide what a file takes.
A_CHILD = 2000
ROOT = Path(__file__).parents[2]


@dataclass
class Record:
    """What came of a campaign; `failures`: each trial that broke a promise, with how."""

    seed: int
    trials: int = 0
    decoded: int = 0
    judged: int = 0
    seconds: float = 0.0
    slowest: tuple[float, int] = (0.0, -1)  # seconds, and the trial
    largest_share: float = 0.0  # of what a file may take
    by_format: Counter[str] = field(default_factory=Counter)
    decoded_by_format: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the mutated files, those that got to the decoder."""
        return self.decoded / max(self.trials, 1)

    def add(self, result: dict[str, Any]) -> None:
        self.trials += 1
        self.decoded += result["decoded"]
        self.judged += result["outcome"] == "ok"
        self.slowest = max(self.slowest, (result["seconds"], result["trial"]))
        self.by_format[result["form"]] += 1
        self.decoded_by_format[result["form"]] += result["decoded"]
        allowed = BUDGET_FACTOR * result["budget"] + SPARE_BYTES
        self.largest_share = max(self.largest_share, result["grown"] / allowed)
        if result["outcome"] not in ("ok", "refused"):
            self.failures.append(result)
        elif result["grown"] > allowed:
            self.failures.append({**result, "outcome": "memory"})
        elif result["seconds"] > MOST_SECONDS:
            self.failures.append({**result, "outcome": "time"})

    def as_json(self) -> dict[str, Any]:
        forms = sorted(self.by_format)
        return {
            "seed": self.seed,
            "trials": self.trials,
            "reached the decoder": round(self.share, 4),
            "judged": round(self.judged / max(self.trials, 1), 4),
            "reached the decoder, by format": {
                form: round(self.decoded_by_format[form] / self.by_format[form], 3) for form in forms
            },
            "seconds": round(self.seconds, 1),
            "slowest file, seconds": self.slowest[0],
            "slowest file, trial": self.slowest[1],
            "largest share of the memory allowed": round(self.largest_share, 3),
            "failures": self.failures,
        }


def run(seed: int, trials: int, most_seconds: float = float("inf"), first: int = 0) -> Record:
    """`trials` mutated files, or as many as `most_seconds` allow."""
    record, start = Record(seed), monotonic()
    trial, last = first, first + trials
    while trial < last and monotonic() - start < most_seconds:
        for result in _child(seed, trial, min(last, trial + A_CHILD)):
            record.add(result)
            trial = result["trial"] + 1
            if monotonic() - start > most_seconds:
                break
    record.seconds = monotonic() - start
    return record


def _child(seed: int, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Results of one process, the last of them a failure where the process hung or died."""
    command = [sys.executable, "-m", "tests.fuzz.child", str(seed), str(first), str(last)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=False)
    assert process.stdout is not None
    running = -1
    try:
        for message in _messages(process.stdout):
            if message is None:
                yield _lost(running if running >= 0 else first, "time")
                return
            if "starts" in message:
                running = message["starts"]
            else:
                running = -1
                yield message
        if process.wait() != 0:
            yield _lost(running if running >= 0 else first, f"died with {process.returncode}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _lost(trial: int, outcome: str) -> dict[str, Any]:
    return {"trial": trial, "form": "?", "outcome": outcome, "decoded": True, "budget": 0, "seconds": 0.0, "grown": 0}


def _messages(stream: IO[bytes]) -> Iterator[dict[str, Any] | None]:
    """Lines of JSON as they come; None where the next one takes too long."""
    selector = selectors.DefaultSelector()
    selector.register(stream, selectors.EVENT_READ)
    pending, wait = b"", START_SECONDS
    while True:
        if not selector.select(wait):
            yield None
            return
        chunk = os.read(stream.fileno(), 1 << 16)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)
        wait = HANG_SECONDS
