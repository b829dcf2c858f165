"""The OpenAPI document of the server, at `/openapi.json`: data in a file, with the number of this version inserted."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from glass_rt.serve.http.responses import json_response
from glass_rt.version import __version__


def openapi_route() -> Route:
    """The document's route."""
    return Route("/openapi.json", _get_document, methods=["GET"])


@cache
def openapi_document() -> dict[str, Any]:
    """The document. All callers share it, so they must not change it."""
    document: dict[str, Any] = json.loads(files(__name__).joinpath("openapi.json").read_text("utf-8"))
    document["info"]["version"] = __version__
    return document


async def _get_document(_: Request) -> Response:
    return json_response(openapi_document())
