"""The HTTP application of a server: routes, the middleware around all of them, and errors as responses."""

from __future__ import annotations

from http import HTTPStatus

from glass_rt.errors import MissingDependency, drop_frames

try:
    from starlette.applications import Starlette
except ImportError:
    raise MissingDependency("starlette", "serve", "glass-rt serve") from None

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from glass_rt.errors import GlassError
from glass_rt.results.verdict import SCHEMA
from glass_rt.serve.http.limits import RequestLimits
from glass_rt.serve.http.openapi import openapi_route
from glass_rt.serve.http.origins import OriginCheck, OriginPolicy
from glass_rt.serve.http.page import page_route
from glass_rt.serve.http.probes import healthz, metrics, readyz
from glass_rt.serve.http.responses import INFERENCE_PROTOCOL, error_response, json_response
from glass_rt.serve.http.trace import Trace
from glass_rt.serve.http.verdict_route import post_verdict
from glass_rt.serve.oip import rest
from glass_rt.serve.service import Service

# Paths without an API key: health checks have none, and the descriptions tell a person without one what to do.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/", "/openapi.json"}) | rest.OPEN_PATHS


def create_app(service: Service, policy: OriginPolicy | None = None) -> Starlette:
    """The server's ASGI application, with all of its routes; the caller starts and stops the service.

    `policy`: which names and origins it takes; that of a server on loopback where there is none. Handlers find the
    service in `app.state.service`.
    """
    app = Starlette(
        routes=[
            Route("/v1/verdict", post_verdict, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            page_route(),
            openapi_route(),
            *rest.v2_routes(),
        ],
        middleware=[
            Middleware(Trace, metrics=service.metrics),
            Middleware(OriginCheck, policy=policy or OriginPolicy()),
            Middleware(RequestLimits, service=service, open_paths=OPEN_PATHS),
        ],
        exception_handlers={GlassError: _glass_error_response, HTTPException: _http_error_response},  # type: ignore[dict-item]
    )
    app.router.redirect_slashes = False  # a redirect would send clients to the address in their own Host header
    app.state.service = service
    return app


def _glass_error_response(request: Request, error: GlassError) -> Response:
    drop_frames(error)
    return error_response(error, request.url.path)


def _http_error_response(request: Request, error: HTTPException) -> Response:
    """The router's errors: no such path, or another method than the path has."""
    words = _words(request, error)
    if request.url.path.startswith(INFERENCE_PROTOCOL):
        body: dict[str, object] = {"error": words}
    else:
        body = {"schema": SCHEMA, "path": None, "error": {"kind": "http", "message": words}}
    return json_response(body, error.status_code, dict(error.headers or {}))


def _words(request: Request, error: HTTPException) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "there is no such route; /openapi.json describes those that there are"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and error.headers and "Allow" in error.headers:
        return f"this route does not take {request.method}, but {error.headers['Allow']}"
    return error.detail
