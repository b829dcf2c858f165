"""All that the HTTP side of a server answers: the verdicts, both of its descriptions, and the inference protocol."""

from __future__ import annotations

from starlette.applications import Starlette

from glass_rt.serve.app import create_app
from glass_rt.serve.openapi import openapi_route
from glass_rt.serve.page import page_route
from glass_rt.serve.service import Service
from glass_rt.serve.v2.rest import OPEN_PATHS, v2_routes

DESCRIPTIONS = frozenset({"/", "/openapi.json"})  # static, and where a person without a key learns what to do


def whole_app(service: Service) -> Starlette:
    """The server's application, with every route that it has."""
    routes = [page_route(), openapi_route(), *v2_routes()]
    app = create_app(service, routes=routes, open_paths=DESCRIPTIONS | OPEN_PATHS)
    app.router.redirect_slashes = False  # else strangers are sent to whatever their Host header says
    return app
