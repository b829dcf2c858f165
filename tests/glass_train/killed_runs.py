"""Runs of `glass-rt train` that are killed by SIGKILL and resumed, each in a process forked from this one.

`python -m tests.glass_train.killed_runs DATA OUT`: OUT/whole is never stopped, OUT/<place> is killed there. Nothing of
PyTorch has run before the forks, so no thread is missing in them; they save its start.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import glass_train.command  # imported once for all
import glass_train.loop.files
import glass_train.loop.trainer
import glass_train.run

from tests.command_line import run_here
from tests.glass_train.tiny import register

PLACES = {
    "between_checkpoints": (glass_train.loop.trainer.Trainer, "_step", 3),
    "writing_a_checkpoint": (os, "fsync", 2),
    "validating": (glass_train.loop.trainer.Trainer, "_validate", 3),
}
OPTIONS = ("--backbone", "tiny_batch", "--weights", "none", "--epochs", "3", "--batch", "4", "--crops", "2",
           "--ema", "0.9", "--clip", "1", "--delivery", "mild", "--deliveries", "2", "--tiers", "clean,jpeg90",
           "--high-pass", "--crop-loss", "0.5", "--freeze-statistics", "2", "--step-crops", "1", "--checkpoint-steps", "2", "--device", "cpu", "--threads", "1",
           "--workers", "2", "--no-bundle", "--quiet")  # fmt: skip


def killed_at_call(owner: Any, name: str, number: int) -> None:
    """The `number`th call of a function does not return: the process is killed."""
    original, calls = getattr(owner, name), [0]

    def counted(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        calls[0] += 1
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def forked(work: Callable[[], int]) -> int:
    """What `os.waitpid` says of a child that does the work."""
    child = os.fork()
    if child == 0:
        os._exit(work())
    return os.waitpid(child, 0)[1]


def train(*arguments: object) -> int:
    """The command in this process; the bundle at its end is another test's."""
    done = run_here("train", *arguments)
    sys.stderr.write(done.stderr)
    return done.returncode


def killed(data: str, out: Path, place: str) -> int:
    """Trains until the process is killed."""
    killed_at_call(*PLACES[place])
    return train(data, "--output", out / place, *OPTIONS)


def resumed(out: Path, place: str) -> int:
    """Goes on with the run."""
    return train("--resume", "--output", out / place, "--quiet")


def main(data: str, out: Path) -> None:
    """Prints how each process ended."""
    register()
    print("whole", forked(partial(train, data, "--output", out / "whole", *OPTIONS)))
    for place in PLACES:
        print(place, forked(partial(killed, data, out, place)), forked(partial(resumed, out, place)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
