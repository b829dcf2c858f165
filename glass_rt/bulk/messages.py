"""The messages between a supervisor and its judge process, pickled over a pair of sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glass_rt.errors import GlassError, UsageError
from glass_rt.options import DetectOptions, RunOptions


@dataclass(frozen=True)
class Opening:
    """The supervisor's first message: which detector to open, and the options to judge with."""

    engine: str
    options: DetectOptions
    run: RunOptions


@dataclass(frozen=True)
class Ready:
    """Reply to `Opening`: the detector is open and has judged a test picture.

    `window`: the images under way that keep all of its threads busy. `engine`: the `engine` object of its verdicts.
    """

    window: int
    engine: dict[str, str]


@dataclass(frozen=True)
class Refused:
    """An error that ends the work: the detector cannot be opened, or Ray cannot go on."""

    message: str
    kind: str


@dataclass(frozen=True)
class Unreadable:
    """The reason why an image could not be fetched, in place of its bytes."""

    reason: str


@dataclass(frozen=True)
class Task:
    """One image to judge: a path on this machine, encoded bytes, or the reason why there are none."""

    number: int
    source: str | bytes | Unreadable


@dataclass(frozen=True)
class TaskResult:
    """The verdict or failure of one task, as the JSON object of `glass-rt infer --json`."""

    number: int
    result: dict[str, Any]


def error_of(message: str, kind: str) -> GlassError:
    """An error of another process, to be raised in this one: UsageError, or GlassError for any other kind."""
    return UsageError(message) if kind == UsageError.kind else GlassError(message)
