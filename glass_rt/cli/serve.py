"""`glass-rt serve`: judging over HTTP."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from glass_rt.bundle import find_bundle
from glass_rt.cli.options import engine_option, quiet_option, run_options
from glass_rt.detector import Detector
from glass_rt.serve.settings import Settings

if TYPE_CHECKING:
    from glass_rt.serve.service import Service

DEFAULTS = Settings()
F = TypeVar("F", bound=Callable[..., Any])


def parse_size(_ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Bytes, from a number with K, M or G behind it for the powers of 1024."""
    found = re.fullmatch(r"(\d{1,15})([KMG]?)", value.strip(), re.IGNORECASE)
    if found is None or int(found[1]) == 0:
        raise click.BadParameter(
            f"{value!r} is no size: write a number of bytes, with K, M or G behind it if you like", param=param
        )
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2].upper()]


def seconds(name: str, default: float, text: str) -> Callable[[F], F]:
    """An option that takes a positive number of seconds."""
    return click.option(
        name,
        type=click.FloatRange(0, min_open=True),
        default=default,
        show_default=True,
        metavar="SECONDS",
        help=text,
    )


@click.command(short_help="Judge images over HTTP and gRPC.")
@engine_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option(
    "--grpc-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Answer the Open Inference Protocol over gRPC too; Triton's port is 8001.  [default: no gRPC]",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Ask for an API key; the file holds one per line.  [default: none is asked for]",
)
@click.option(
    "--max-body", callback=parse_size, default="64M", show_default=True, metavar="SIZE", help="Of one request."
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=DEFAULTS.max_pixels,
    show_default=True,
    metavar="N",
    help="Refuse larger images, by their header.",
)
@click.option(
    "--max-crops",
    type=click.IntRange(1),
    default=DEFAULTS.max_crops,
    show_default=True,
    metavar="K",
    help="Most crops per image that a request may ask for.",
)
@click.option(
    "--queue-images",
    type=click.IntRange(1),
    default=DEFAULTS.queue_images,
    show_default=True,
    metavar="N",
    help="Images under way at once; further ones get 429.",
)
@click.option(
    "--queue-bytes",
    callback=parse_size,
    default="512M",
    show_default=True,
    metavar="SIZE",
    help="Bodies in memory at once; further ones get 429.",
)
@seconds("--deadline", DEFAULTS.deadline_s, "An image that is not judged by then gets 504.")
@seconds("--body-timeout", DEFAULTS.body_timeout_s, "For a request's body to arrive.")
@seconds("--header-timeout", DEFAULTS.header_timeout_s, "For a request's headers to arrive.")
@seconds("--drain-timeout", DEFAULTS.drain_timeout_s, "For requests under way to finish after SIGTERM.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Threads that decode.  [default: cores, up to 8]")
@run_options
@quiet_option
def serve(
    engine: Path | None,
    host: str,
    port: int,
    grpc_port: int | None,
    api_key_file: Path | None,
    max_body: int,
    max_pixels: int,
    max_crops: int,
    queue_images: int,
    queue_bytes: int,
    deadline: float,
    body_timeout: float,
    header_timeout: float,
    drain_timeout: float,
    workers: int | None,
    device: str | None,
    batch: int | None,
    threads: int | None,
    expect_bundle: str | None,
    quiet: bool,
) -> int:
    """Judge images over HTTP: POST /v1/verdict takes an image, or a form with several.

    / is a page to drop an image on, /openapi.json describes all routes, and below /v2 clients of the Open Inference
    Protocol (KServe, Triton) are answered.

    SIGTERM and Ctrl-C finish the requests under way. SIGHUP opens a rebuilt bundle without dropping a request. Logs
    are JSON lines on stderr; /healthz and /metrics say how it is. Exit code 0: stopped with nothing left undone.
    """
    from glass_rt.serve.api_keys import read_api_keys
    from glass_rt.serve.json_log import log_json
    from glass_rt.serve.metrics import Metrics
    from glass_rt.serve.server import bind, run
    from glass_rt.serve.server import serve as serve_until_stopped
    from glass_rt.serve.service import Service
    from glass_rt.serve.surface import whole_app

    settings = Settings(
        max_body=max_body,
        max_pixels=max_pixels,
        max_crops=max_crops,
        queue_images=queue_images,
        queue_bytes=queue_bytes,
        deadline_s=deadline,
        header_timeout_s=header_timeout,
        body_timeout_s=body_timeout,
        drain_timeout_s=drain_timeout,
        workers=workers,
        api_keys=read_api_keys(api_key_file) if api_key_file else (),
    )
    folder = find_bundle(engine)
    open_detector = partial(
        Detector.open, folder, device=device, batch=batch, threads=threads, expect_bundle=expect_bundle
    )
    listener = bind(host, port)
    log = log_json(sys.stderr, logging.WARNING if quiet else logging.INFO)

    async def main() -> bool:
        service = Service(open_detector, settings, Metrics())
        grpc = [] if grpc_port is None else [_grpc_server(service, host, grpc_port)]
        return await serve_until_stopped(service, whole_app(service), listener, grpc)

    try:
        return 0 if run(main()) else 1
    finally:
        log.close()


def _grpc_server(service: Service, host: str, port: int) -> AbstractAsyncContextManager[int]:
    from glass_rt.serve.v2.grpc_server import grpc_server

    return grpc_server(service, host, port)
