"""JSON responses. An error has the form of the protocol at its path."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from glass_rt.errors import GlassError
from glass_rt.results.verdict import Failure
from glass_rt.serve.http.status import headers_of, status_of

INFERENCE_PROTOCOL = "/v2"  # below this path errors are those of the Open Inference Protocol


def json_bytes(value: Any) -> bytes:
    """Compact JSON, with a line end for terminals."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response with a JSON body."""
    return Response(json_bytes(value), status, headers, media_type="application/json")


def error_response(error: GlassError, path: str) -> Response:
    """The response to a request that failed: status and headers from the table, the error's message in the body."""
    body = {"error": str(error)} if path.startswith(INFERENCE_PROTOCOL) else Failure(None, error).to_json()
    return json_response(body, status_of(error), headers_of(error))
