"""Overlays for requests with `overlay=1`: the image is decoded a second time, one image at a time."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

from glass_rt.image.encoded import read_image
from glass_rt.results.overlay import draw_overlay, drawing_bytes, jpeg_bytes
from glass_rt.results.verdict import Verdict
from glass_rt.serve.service import Service

_DRAWING = ThreadPoolExecutor(1, thread_name_prefix="glass-rt overlay")


async def overlay_jpeg_base64(data: bytes, verdict: Verdict, service: Service) -> str:
    """The overlay of an image that `service` judged: a JPEG in base64. Raises OutOfMemory."""
    return await asyncio.get_running_loop().run_in_executor(_DRAWING, _draw, data, verdict, service)


def _draw(data: bytes, verdict: Verdict, service: Service) -> str:
    encoded = read_image(data, service.settings.max_pixels)
    with service.holding(drawing_bytes(encoded)):
        picture = draw_overlay(encoded.decode().pixels, verdict)
        return base64.b64encode(jpeg_bytes(picture)).decode("ascii")
