"""The Open Inference Protocol over HTTP: routes beside the server's own.

Health checks respond with 400 where the server or model is not ready, as on Triton's page on health. An unknown model
is a 404.

Sources: github.com/kserve/open-inference-protocol (inference_rest.md); for configuration, statistics and index,
Triton's pages on these extensions.
"""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from glass_rt.serve.http.disconnect import cancel_on_disconnect
from glass_rt.serve.http.responses import json_response
from glass_rt.serve.http.status import CLIENT_GONE
from glass_rt.serve.oip.description import model_config, model_statistics, repository_index
from glass_rt.serve.oip.protocol import VERSION, describe, model_name
from glass_rt.serve.oip.request import check_model, infer
from glass_rt.serve.oip.rest_message import encode_response, parse_index_request, parse_request
from glass_rt.serve.service import Service
from glass_rt.version import __version__

HEADER_LENGTH = "Inference-Header-Content-Length"
PARSED_AT_ONCE = 1 << 20  # bytes; larger requests are parsed off the event loop, numbers in JSON being slow to read
SERVER = "glass-rt"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics")
OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})  # without an API key: health checks have none


def v2_routes() -> list[BaseRoute]:
    """The protocol's routes; they find the service in `app.state.service`."""
    routes: list[BaseRoute] = [
        Route("/v2", server_metadata, methods=["GET"]),
        Route("/v2/health/live", live, methods=["GET"]),
        Route("/v2/health/ready", ready, methods=["GET"]),
        Route("/v2/models/stats", all_statistics, methods=["GET"]),
        Route("/v2/repository/index", index, methods=["POST"]),
    ]
    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(model, model_metadata, methods=["GET"]),
            Route(f"{model}/ready", model_ready, methods=["GET"]),
            Route(f"{model}/config", configuration, methods=["GET"]),
            Route(f"{model}/stats", statistics, methods=["GET"]),
            Route(f"{model}/infer", model_infer, methods=["POST"]),
        ]
    return routes


async def live(request: Request) -> Response:
    """Whether the process is live."""
    is_live = _service(request).live
    return json_response({"live": is_live}, 200 if is_live else 400)


async def ready(request: Request) -> Response:
    """Whether requests should be sent here."""
    is_ready = _service(request).ready
    return json_response({"ready": is_ready}, 200 if is_ready else 400)


async def server_metadata(request: Request) -> Response:
    """The server's name, version and extensions."""
    return json_response({"name": SERVER, "version": __version__, "extensions": list(EXTENSIONS)})


async def model_metadata(request: Request) -> Response:
    """The model's tensors."""
    _check_model(request)
    return json_response(describe(_service(request).manifest).to_json())


async def model_ready(request: Request) -> Response:
    """Whether the model is ready, which it is when its server is."""
    _check_model(request)
    is_ready = _service(request).ready
    return json_response({"name": request.path_params["model"], "ready": is_ready}, 200 if is_ready else 400)


async def configuration(request: Request) -> Response:
    """The model's configuration in Triton's words."""
    _check_model(request)
    return json_response(model_config(_service(request)))


async def statistics(request: Request) -> Response:
    """How much the model has judged, and where the time went."""
    _check_model(request)
    return json_response(model_statistics(_service(request)))


async def all_statistics(request: Request) -> Response:
    """The statistics of every model, which is one."""
    return json_response(model_statistics(_service(request)))


async def index(request: Request) -> Response:
    """The models that there are."""
    only_ready = parse_index_request(await request.body())
    return json_response(repository_index(_service(request), ready=only_ready))


async def model_infer(request: Request) -> Response:
    """Judges images. One image that cannot be judged fails the request."""
    service = _service(request)
    try:
        _check_model(request)
        body, json_bytes = await request.body(), request.headers.get(HEADER_LENGTH)
        large = len(body) > PARSED_AT_ONCE
        wanted = await asyncio.to_thread(parse_request, body, json_bytes) if large else parse_request(body, json_bytes)
        tensors = await cancel_on_disconnect(request.receive, infer(service, wanted))
    except ClientDisconnect:
        return Response(status_code=CLIENT_GONE)  # for the log: the client has disconnected
    response = encode_response(model_name(service.manifest), VERSION, wanted, tensors)
    if response.json_bytes is None:
        return Response(response.body, media_type="application/json")
    headers = {HEADER_LENGTH: str(response.json_bytes)}
    return Response(response.body, headers=headers, media_type="application/octet-stream")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _check_model(request: Request) -> None:
    check_model(_service(request).manifest, request.path_params["model"], request.path_params.get("version"))
