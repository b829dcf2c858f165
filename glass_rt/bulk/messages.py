"""What a worker and the process that judges for it say to each other, pickled over a pair of sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glass_rt.errors import GlassError, UsageError
from glass_rt.options import DetectOptions, RunOptions


@dataclass(frozen=True)
class Opening:
    """First word of the worker: which detector to open, and how it is to judge."""

    engine: str
    options: DetectOptions
    run: RunOptions


@dataclass(frozen=True)
class Ready:
    """Answer to `Opening`: the detector is open and has judged a test picture.

    `window`: images under way at which all of its threads are busy. `engine`: the `engine` object of its verdicts.
    """

    window: int
    engine: dict[str, str]


@dataclass(frozen=True)
class Refused:
    """Answer to `Opening`: the detector cannot be opened."""

    message: str
    kind: str


@dataclass(frozen=True)
class Unreadable:
    """Stands for an image that could not be fetched, and says why."""

    reason: str


@dataclass(frozen=True)
class Task:
    """One image to judge: a path on this machine, encoded bytes, or why there are none."""

    number: int
    source: str | bytes | Unreadable


@dataclass(frozen=True)
class Answer:
    """The JSON form of a verdict or of a failure, as `glass-rt infer --json` prints it."""

    number: int
    result: dict[str, Any]


def error_of(message: str, kind: str) -> GlassError:
    """An error of another process, which ends this one's work too: one of usage, or one at all."""
    return UsageError(message) if kind == UsageError.kind else GlassError(message)
