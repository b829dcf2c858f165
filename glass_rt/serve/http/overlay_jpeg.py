"""Overlays for requests with `overlay=1`: the image is decoded a second time, one image at a time."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

from glass_rt.image.encoded import load
from glass_rt.results.overlay import draw_overlay, jpeg_bytes
from glass_rt.results.verdict import Verdict

_DRAWING = ThreadPoolExecutor(1, thread_name_prefix="glass-rt overlay")


async def overlay_jpeg_base64(data: bytes, verdict: Verdict, max_pixels: int) -> str:
    """The overlay of an image that was judged: a JPEG in base64."""
    return await asyncio.get_running_loop().run_in_executor(_DRAWING, _draw, data, verdict, max_pixels)


def _draw(data: bytes, verdict: Verdict, max_pixels: int) -> str:
    picture = draw_overlay(load(data, max_pixels=max_pixels).pixels, verdict)
    return base64.b64encode(jpeg_bytes(picture)).decode("ascii")
