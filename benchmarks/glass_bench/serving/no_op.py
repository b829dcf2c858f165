"""A server whose detector does nothing: what is left is the server's own cost.

    python -m glass_bench.serving.no_op ENGINE [--port N]

Nothing is decoded. Every image gets the canary's verdict, with its size in bytes as its width and its last bytes as
its SHA-256, so that each response can be told from every other.
"""

from __future__ import annotations

import logging
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import click

from glass_rt.detector import Detector
from glass_rt.image.encoded import ImageSource
from glass_rt.inference.decoding_room import NOTHING_BESIDE, Beside
from glass_rt.inference.pipeline import PackObserver, Pipeline
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Verdict
from glass_rt.serve.app import create_app
from glass_rt.serve.canary import OPTIONS, canary_image
from glass_rt.serve.json_log import log_json
from glass_rt.serve.metrics import Metrics
from glass_rt.serve.server import bind, run, serve
from glass_rt.serve.service import Service
from glass_rt.serve.settings import ServerSettings

TAIL = 8  # bytes of an image that its response repeats


class NoOpPipeline(Pipeline):
    """A pipeline that gives the same verdict at once, without a thread or an engine."""

    def __init__(self, verdict: Verdict) -> None:  # a pipeline without threads
        self._verdict = verdict

    def submit(self, source: ImageSource, options: DetectOptions) -> Future[Verdict]:
        """The same verdict for all, with the image's size and end in it."""
        assert isinstance(source, bytes), "a server submits bytes"
        judged: Future[Verdict] = Future()
        judged.set_result(replace(self._verdict, width=len(source), sha256=source[-TAIL:].hex()))
        return judged

    def close(self) -> None:
        """Nothing is open."""


class NoOpDetector(Detector):
    """A real bundle whose pipeline runs no engine."""

    def pipeline(
        self, workers: int | None = None, observe: PackObserver | None = None, beside: Beside = NOTHING_BESIDE
    ) -> Pipeline:
        """A pipeline that gives, at once, the verdict that the bundle's engine has for the canary."""
        return NoOpPipeline(self.detect(canary_image(), OPTIONS))


@click.command()
@click.argument("engine", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True)
def main(engine: Path, port: int) -> None:
    """Serve verdicts of ENGINE's canary until SIGTERM."""
    listener = bind("127.0.0.1", port)
    log = log_json(sys.stderr, logging.INFO)

    async def serving() -> bool:
        service = Service(lambda: NoOpDetector.open(engine), ServerSettings(), Metrics())
        return await serve(service, create_app(service), listener)

    try:
        run(serving())
    finally:
        log.close()


if __name__ == "__main__":
    main()
