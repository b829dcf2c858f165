"""A server process: its socket, its signals, and the order in which things start and stop."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any

from glass_rt.errors import GlassError, MissingDependency
from glass_rt.serve.http.connection import connection_class
from glass_rt.serve.service import Service
from glass_rt.serve.signals import handled_signals

try:
    import uvicorn
    from starlette.types import ASGIApp
except ImportError:
    raise MissingDependency("uvicorn", "serve", "glass-rt serve") from None

FAREWELL_S = 0.3  # after the last response: clients with open connections still learn that the server stops
BACKLOG = 2048
KEEP_ALIVE_S = 75  # of idle connections; longer than proxies' own, or a proxy would send into a closing one

log = logging.getLogger("glass_rt.serve")


class NotListening(GlassError, OSError):
    """The address cannot be listened on."""

    kind = "not_listening"

    def __str__(self) -> str:  # OSError would format errno and file name instead
        return str(self.args[0])


def bind(host: str, port: int) -> socket.socket:
    """A socket at that address, not listening yet; port 0 takes a free one. Raises NotListening."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise NotListening(f"cannot listen on {host}: {error.strerror}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise NotListening(
            f"cannot listen on {host}, port {port}: {error.strerror}. Choose another --host or --port"
        ) from error
    return bound


class _Http(uvicorn.Server):
    """uvicorn that says when it listens, without its signal handlers.

    These end the process by the signal instead of with an exit code.
    """

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    service: Service,
    app: ASGIApp,
    listener: socket.socket,
    companions: Sequence[AbstractAsyncContextManager[Any]] = (),
    stopping: asyncio.Event | None = None,
) -> bool:
    """Serves until SIGTERM or Ctrl-C, then finishes the requests under way, until clients have read their responses.

    True where all of them were finished and the engine could be closed; also where SIGTERM came before the service was
    ready, whose engine is then left behind (see `Service.left_behind`).

    SIGHUP reads the API keys and the bundle again. With `stopping`, that event takes the place of signals.
    `companions`, such as a gRPC server, are entered once the service is ready and left when no request is under way.
    Raises what starting the service raises, and KeyboardInterrupt for Ctrl-C before the service is ready.
    """
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        ready = asyncio.Event()
        if stopping is None:
            stopping = asyncio.Event()
            stack.enter_context(handled_signals(stopping, ready, (service.reload_api_keys, service.reload)))
        if not await _started(service, stopping):
            log.info("stopped before the engine was opened")
            return True
        ready.set()
        stack.push_async_callback(service.stop)
        for companion in companions:
            await stack.enter_async_context(companion)
        fields = {"url": f"http://{_shown(listener)}", "bundle_sha256": service.bundle_sha256}
        http = _Http(_config(app, service), lambda: log.info("listening", extra={"fields": fields}))
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        log.info("draining")
        until = asyncio.get_running_loop().time() + service.settings.drain_timeout_s
        finished = await service.drain()
        await asyncio.sleep(FAREWELL_S)
        left_s = until - asyncio.get_running_loop().time()
        http.config.timeout_graceful_shutdown = max(1, math.ceil(left_s))  # for responses in connections' buffers
        http.should_exit = True
        await serving
        if http.server_state.connections:
            log.error("%d connections had not taken their answers", len(http.server_state.connections))
            finished = False
    log.info("stopped")
    return finished and not service.left_behind


async def _started(service: Service, stopping: asyncio.Event) -> bool:
    """Starts the service; False where the server is told to stop before."""
    starting, waiting = asyncio.create_task(service.start()), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            return True
        service.leave_behind()
        return False
    finally:
        starting.cancel()
        waiting.cancel()


def run(main: Coroutine[Any, Any, bool]) -> bool:
    """Runs the coroutine on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def _config(app: ASGIApp, service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=connection_class(service.settings.header_timeout_s),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=[("X-Content-Type-Options", "nosniff")],
        proxy_headers=False,  # a client's address is its connection's; a header could claim any
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
    )


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{host}:{port}"
