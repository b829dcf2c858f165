"""What watches a server asks of it: is it well, and what has it done."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from glass_rt.serve.answers import json_response
from glass_rt.serve.metrics import CONTENT_TYPE
from glass_rt.serve.service import Service


async def healthz(request: Request) -> Response:
    """200 where requests should be sent here, 503 where they should not, and why in the body."""
    service: Service = request.app.state.service
    body = {
        "live": service.live,
        "ready": service.ready,
        "draining": service.draining,
        "broken": service.broken,
        "bundle": service.manifest.model.name if service.live else None,
        "bundle_sha256": service.bundle_sha256 if service.live else None,
    }
    return json_response(body, 200 if service.ready else 503)


async def metrics(request: Request) -> Response:
    """All figures in Prometheus' text form."""
    service: Service = request.app.state.service
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)
