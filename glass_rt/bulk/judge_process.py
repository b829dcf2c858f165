"""The process that judges for a worker. An image may kill it; the worker goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import NoReturn

import numpy as np

from glass_rt.bulk.messages import Opening, Ready, Refused, Task, TaskResult, Unreadable
from glass_rt.detector import Detector
from glass_rt.errors import GlassError, ImageNotReadable, first_line
from glass_rt.inference.pipeline import Pipeline
from glass_rt.machine.malloc import give_back_large_arrays
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Failure, Verdict

UNEXPECTED = "unexpected"  # kind of an error that glass-rt did not raise on purpose


class _Unexpected(GlassError):
    """An error that glass-rt did not raise on purpose, as one that it can report."""

    kind = UNEXPECTED


def main(descriptor: int) -> NoReturn:
    """Judges for the worker at the other end of the inherited socket until that end is closed."""
    give_back_large_arrays()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the worker, and with it the socket
    connection: Connection[object, object] = Connection(descriptor)
    with suppress(EOFError, OSError):
        _serve(connection)
    os._exit(0)  # without waiting for threads that hang in a decoder


def _serve(connection: Connection[object, object]) -> None:
    opening = connection.recv()
    assert isinstance(opening, Opening)
    try:
        detector = Detector.open(opening.engine, opening.run)
        size = detector.manifest.model.crop_size
        # Shows that the engine works, before an image can be blamed for its failure.
        canary = detector.detect(np.zeros((size, size, 3), np.uint8), opening.options)
    except GlassError as error:
        connection.send(Refused(str(error), error.kind))
        return
    pipeline = detector.pipeline()
    connection.send(Ready(pipeline.images_ahead, asdict(canary.engine)))
    _judge_tasks(connection, pipeline, opening.options)


def _judge_tasks(connection: Connection[object, object], pipeline: Pipeline, options: DetectOptions) -> None:
    sending = threading.Lock()  # verdicts come from the thread that judges, failures from those that decode

    def sender(number: int) -> Callable[[Future[Verdict]], None]:
        def send(verdict: Future[Verdict]) -> None:
            with sending, suppress(OSError):  # the worker has gone, which `recv` will notice
                connection.send(TaskResult(number, _outcome(verdict)))

        return send

    while True:
        task = connection.recv()
        assert isinstance(task, Task)
        if isinstance(task.source, Unreadable):
            unread: Future[Verdict] = Future()
            unread.set_exception(ImageNotReadable(task.source.reason))
            sender(task.number)(unread)
        else:
            pipeline.submit(task.source, options).add_done_callback(sender(task.number))


def _outcome(verdict: Future[Verdict]) -> dict[str, object]:
    """The JSON form of an image's verdict or failure."""
    error = verdict.exception()
    if error is None:
        return verdict.result().to_json()
    if not isinstance(error, GlassError):
        error = _Unexpected(f"{type(error).__name__}: {first_line(error)}")
    return Failure(None, error).to_json()
