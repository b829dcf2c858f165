"""Health checks and metrics, for the programs that watch a server."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from glass_rt.serve.http.responses import json_response
from glass_rt.serve.metrics import CONTENT_TYPE
from glass_rt.serve.service import Service


async def healthz(request: Request) -> Response:
    """200 while the process is live, 503 where it should be restarted; the body gives the state."""
    service: Service = request.app.state.service
    return json_response(_state(service), 200 if service.live else 503)


async def readyz(request: Request) -> Response:
    """200 where requests should be sent here, 503 where they should not; the body gives the state."""
    service: Service = request.app.state.service
    return json_response(_state(service), 200 if service.ready else 503)


def _state(service: Service) -> dict[str, object]:
    return {
        "live": service.live,
        "ready": service.ready,
        "draining": service.draining,
        "broken": service.broken,
        "bundle": service.manifest.model.name,
        "bundle_sha256": service.bundle_sha256,
    }


async def metrics(request: Request) -> Response:
    """All metrics in Prometheus' text form."""
    service: Service = request.app.state.service
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)
