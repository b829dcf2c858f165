"""`glass-rt serve`: judging over HTTP."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from glass_rt.cli import EXIT_INTERRUPTED
from glass_rt.cli.chosen_bundle import chosen_bundle
from glass_rt.cli.options import engine_option, quiet_option, run_options
from glass_rt.cli.server_options import server_options
from glass_rt.detector import Detector
from glass_rt.options import RunOptions
from glass_rt.serve.settings import ServerSettings

if TYPE_CHECKING:
    from glass_rt.serve.service import Service


@click.command(short_help="Judge images over HTTP and gRPC.")
@engine_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    default=8000,
    show_default=True,
    help="Port to listen on; 0: any free one.",
)
@click.option(
    "--grpc-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Answer the Open Inference Protocol over gRPC too; Triton's port is 8001.  [default: no gRPC]",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="A name of this server in requests' Host, beside those of its own address; repeatable.  [default: on "
    "loopback localhost, 127.0.0.1 and [::1]; elsewhere Host is not checked]",
)
@click.option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    metavar="ORIGIN",
    help="A web site, as https://example.org, whose pages may ask here from the browsers of their visitors; "
    "repeatable.  [default: none but this server's own page]",
)
@server_options
@run_options
@quiet_option
def serve(
    engine: Path | None,
    host: str,
    port: int,
    grpc_port: int | None,
    allow_hosts: tuple[str, ...],
    allow_origins: tuple[str, ...],
    settings: ServerSettings,
    run: RunOptions,
    quiet: bool,
) -> int:
    """Judge images over HTTP: POST /v1/verdict takes an image, or a form with several.

    / is a page to drop an image on, /openapi.json describes all routes, and below /v2 clients of the Open Inference
    Protocol (KServe, Triton) are answered.

    SIGTERM and Ctrl-C finish the requests under way. SIGHUP opens a rebuilt bundle without dropping a request, and
    reads the API keys again. Logs are JSON lines on stderr; /healthz and /metrics say how it is. Exit code 0: stopped
    with nothing left undone.
    """
    from glass_rt.serve import server
    from glass_rt.serve.app import create_app
    from glass_rt.serve.http.origins import policy_for
    from glass_rt.serve.json_log import log_json
    from glass_rt.serve.metrics import Metrics
    from glass_rt.serve.service import Service

    open_detector = partial(Detector.open, chosen_bundle(engine), run)
    listener = server.bind(host, port)
    policy = policy_for(host, listener.getsockname()[0], allow_hosts, allow_origins)
    log = log_json(sys.stderr, logging.WARNING if quiet else logging.INFO)

    service = Service(open_detector, settings, Metrics())

    async def main() -> bool:
        grpc = [] if grpc_port is None else [_grpc_server(service, host, grpc_port)]
        return await server.serve(service, create_app(service, policy), listener, grpc)

    try:
        code = 0 if server.run(main()) else 1
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
        service.leave_behind()
    finally:
        log.close()
    if code == 0 and not service.left_behind:
        return 0
    if code == EXIT_INTERRUPTED:
        click.echo("interrupted", err=True)
    os._exit(code)  # the interpreter would wait for the threads of an engine that hangs, or is being opened


def _grpc_server(service: Service, host: str, port: int) -> AbstractAsyncContextManager[int]:
    from glass_rt.serve.oip.grpc_server import grpc_server

    return grpc_server(service, host, port)
