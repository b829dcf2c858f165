"""The page at `/`: drop an image on it, see the verdict, its overlay and its timings.

One file without any other resource. Its policy lets the browser run the script and the style inside the file, known
by their hashes, connect to this server alone, and show pictures that came with a response.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def page_route() -> Route:
    """The page's route."""
    return Route("/", _get_page, methods=["GET"])


@cache
def page_html() -> str:
    """The page."""
    return files(__name__).joinpath("index.html").read_text("utf-8")


def content_security_policy(html: str) -> str:
    """A policy that lets the inline scripts and styles of `html` run, and no others."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes(html, 'script')}",
            f"style-src {_hashes(html, 'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hashes(html: str, tag: str) -> str:
    found = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in found)


async def _get_page(_: Request) -> Response:
    html = page_html()
    headers = {
        "Content-Security-Policy": content_security_policy(html),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
    }
    return Response(html, headers=headers, media_type="text/html")
