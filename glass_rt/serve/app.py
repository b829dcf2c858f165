"""The HTTP side of a server: routes, the middleware around all of them, and errors as answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from glass_rt.errors import MissingDependency

try:
    from starlette.applications import Starlette
except ImportError:
    raise MissingDependency("starlette", "serve", "glass-rt serve") from None

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from glass_rt.errors import GlassError
from glass_rt.serve.answers import INFERENCE_PROTOCOL, error_response, json_response
from glass_rt.serve.gate import Gate
from glass_rt.serve.probes import healthz, metrics, readyz
from glass_rt.serve.service import Service
from glass_rt.serve.trace import Trace
from glass_rt.serve.verdicts import post_verdict
from glass_rt.verdict import SCHEMA

OPEN_PATHS = frozenset({"/healthz", "/readyz"})  # no API key is asked for: whoever probes has none


def create_app(
    service: Service, *, routes: Sequence[BaseRoute] = (), open_paths: Collection[str] = frozenset()
) -> Starlette:
    """An ASGI application around a service that somebody else starts and stops.

    `routes` come beside our own and stand behind the same middleware; they find the service in `app.state.service`.
    `open_paths`: those of them that need no API key.
    """
    own = [
        Route("/v1/verdict", post_verdict, methods=["POST"]),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
    app = Starlette(
        routes=[*own, *routes],
        middleware=[
            Middleware(Trace, metrics=service.metrics),
            Middleware(Gate, service=service, open_paths=OPEN_PATHS | set(open_paths)),
        ],
        exception_handlers={GlassError: _answer_error, HTTPException: _answer_http_error},  # type: ignore[dict-item]
    )
    app.state.service = service
    return app


def _answer_error(request: Request, error: GlassError) -> Response:
    return error_response(error, request.url.path)


def _answer_http_error(request: Request, error: HTTPException) -> Response:
    """Of the router: no such path, or not with this method."""
    if request.url.path.startswith(INFERENCE_PROTOCOL):
        body: dict[str, object] = {"error": error.detail}
    else:
        body = {"schema": SCHEMA, "path": None, "error": {"kind": "http", "message": error.detail}}
    return json_response(body, error.status_code, dict(error.headers or {}))
