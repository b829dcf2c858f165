"""`POST /v1/verdict`: images in, the JSON of `glass-rt infer --json` out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from glass_rt.results.verdict import Failure, Verdict
from glass_rt.serve.http.disconnect import cancel_on_disconnect
from glass_rt.serve.http.overlay_jpeg import overlay_jpeg_base64
from glass_rt.serve.http.responses import json_bytes
from glass_rt.serve.http.status import CLIENT_GONE, headers_of, status_of
from glass_rt.serve.http.uploads import Uploads, read_uploads
from glass_rt.serve.http.verdict_query import VerdictQuery, parse_query
from glass_rt.serve.service import Service

CROPS_AT_ONCE = 256  # responses with more crops are encoded off the event loop: about 2 ms of work


async def post_verdict(request: Request) -> Response:
    """One object for a body that is an image, an array for a form; an image that failed has its failure in its place.

    The status of a single image is its error's. An array has 200 unless the engine failed.
    """
    service: Service = request.app.state.service
    query = parse_query(request.query_params)
    try:
        uploads = await read_uploads(request, service.settings.queue_images)
        return await cancel_on_disconnect(request.receive, _respond(service, uploads, query))
    except ClientDisconnect:
        return Response(status_code=CLIENT_GONE)  # for the log: the client has disconnected


async def _respond(service: Service, uploads: Uploads, query: VerdictQuery) -> Response:
    pictures: list[str | None] = [None] * len(uploads.images)

    async def draw(results: list[Verdict | Failure]) -> None:
        for number, (upload, result) in enumerate(zip(uploads.images, results, strict=True)):
            if isinstance(result, Verdict):
                pictures[number] = await overlay_jpeg_base64(upload.data, result, service)

    images = [upload.data for upload in uploads.images]
    results = await service.judge(images, query.options, draw if query.overlay else None)
    named = [replace(result, path=upload.name) for result, upload in zip(results, uploads.images, strict=True)]
    body = await _encoded(named, pictures, single=uploads.single)
    errors = [result.error for result in named if isinstance(result, Failure)]
    failing = [error for error in errors if uploads.single or status_of(error) >= 500]
    headers = headers_of(failing[0]) if failing else None
    return Response(body, status_of(failing[0]) if failing else 200, headers, media_type="application/json")


async def _encoded(results: Sequence[Verdict | Failure], pictures: Sequence[str | None], *, single: bool) -> bytes:
    def encode() -> bytes:
        objects: list[dict[str, Any]] = [result.to_json() for result in results]
        for found, picture in zip(objects, pictures, strict=True):
            if picture is not None:
                found["overlay_jpeg_base64"] = picture
        return json_bytes(objects[0] if single else objects)

    crops = sum(len(result.crops) for result in results if isinstance(result, Verdict))
    large = crops > CROPS_AT_ONCE or any(pictures)
    return await asyncio.to_thread(encode) if large else encode()
