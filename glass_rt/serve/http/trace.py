"""ASGI middleware: every request has an id and a line in the log, and is counted in the metrics."""

from __future__ import annotations

import logging
from time import perf_counter

from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glass_rt.errors import BackendError, drop_frames, first_line
from glass_rt.serve.http.responses import error_response
from glass_rt.serve.http.status import CLIENT_GONE
from glass_rt.serve.metrics import Metrics
from glass_rt.serve.request_id import request_id_of

LONGEST_PATH = 200  # characters, in the log

log = logging.getLogger("glass_rt.serve.requests")


class Trace:
    """Names, times and counts requests, and responds with 500 where a route raises an unexpected error."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = perf_counter()
        request_id = request_id_of(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        status = CLIENT_GONE  # unless a response is sent

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception as error:
            log.exception("unexpected error", extra={"fields": {"request_id": request_id}})
            drop_frames(error)
            if status == CLIENT_GONE:
                failure = BackendError(f"unexpected error: {first_line(error)}")
                await error_response(failure, scope["path"])(scope, receive, send_named)
        finally:
            self._conclude(scope, request_id, status, perf_counter() - start)

    def _conclude(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        self._metrics.request_done(_known_method(scope), _route(scope), status, seconds)
        fields = {
            "request_id": request_id,
            "method": scope["method"],
            "path": scope["path"][:LONGEST_PATH],
            "status": status,
            "ms": round(1e3 * seconds, 2),
            "client": scope["client"][0] if scope.get("client") else None,
        }
        log.info("request", extra={"fields": fields})


def _route(scope: Scope) -> str:
    """The pattern that matches, also for a request past its limits; never the path, since metrics need few labels."""
    routes = scope["app"].router.routes
    route = scope.get("route") or next((one for one in routes if one.matches(scope)[0] is not Match.NONE), None)
    return getattr(route, "path", "none")


def _known_method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH") else "other"
