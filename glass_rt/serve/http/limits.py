"""ASGI middleware with the limits on requests: API key, size of the body, time for it to arrive, room in the queue."""

from __future__ import annotations

from collections.abc import Collection

import anyio
import anyio.lowlevel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glass_rt.errors import GlassError, drop_frames
from glass_rt.serve.api_keys import api_key_of, check_api_key
from glass_rt.serve.http.inflate import Inflater, coding_of
from glass_rt.serve.http.responses import error_response
from glass_rt.serve.refusals import AmbiguousRequest, BodyTooLarge, BodyTooSlow, MalformedRequest
from glass_rt.serve.service import RequestHold, Service
from glass_rt.serve.settings import ServerSettings


class RequestLimits:
    """Checks every request before its route sees it.

    All paths but `open_paths` need an API key. Requests that may judge are those of any method but GET, HEAD and
    OPTIONS. While the server drains or is full, they are refused before their body is read. Their body is counted and
    timed as the route reads it; an error of that is raised inside the route, and its response is made like that of any
    error of the route.
    """

    def __init__(self, app: ASGIApp, service: Service, open_paths: Collection[str]) -> None:
        self._app = app
        self._service = service
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._pass(scope, receive, send)
        except GlassError as error:  # of these limits: the application has its own response to a route's errors
            drop_frames(error)
            await error_response(error, scope["path"])(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._service.settings
        _check_framing(scope)
        if scope["path"] not in self._open_paths:
            check_api_key(api_key_of(scope["headers"]), self._service.api_keys)
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        _check_length(scope["headers"], settings)
        coding = coding_of(scope["headers"])
        with self._service.request() as hold:
            reader: Receive = BodyReader(receive, hold if coding is None else None, settings)
            if coding is not None:
                reader = InflatedBody(reader, coding, hold, settings)
            await self._app(scope, reader, send)


class BodyReader:
    """A `receive` that counts and times a request's body. Raises BodyTooLarge, BodyTooSlow, Overloaded.

    After the body it waits for the client to disconnect, without a limit. `hold` is None where the body's bytes are not
    kept as they come.
    """

    def __init__(self, receive: Receive, hold: RequestHold | None, settings: ServerSettings) -> None:
        self._receive = receive
        self._hold = hold
        self._settings = settings
        self._came = 0
        self._more = True
        self._until = anyio.current_time() + settings.body_timeout_s

    async def __call__(self) -> Message:
        """The next message of the request."""
        if not self._more:
            return await self._receive()
        try:
            with anyio.fail_after(self._until - anyio.current_time()):
                message = await self._receive()
        except TimeoutError:
            seconds = self._settings.body_timeout_s
            raise BodyTooSlow(f"the body did not arrive within {seconds:g} s ({self._came} bytes came)") from None
        self._more = message.get("more_body", False)
        size = len(message.get("body", b""))
        self._came += size
        if self._came > self._settings.max_body:
            raise BodyTooLarge(_too_large(self._settings))
        if self._hold is not None:
            self._hold.hold(size)
        return message


class InflatedBody:
    """A `receive` that inflates a compressed body. Raises what `reader` raises, and UnsupportedEncoding.

    The limits hold for the compressed body, which `reader` counts, and for the inflated one.
    """

    def __init__(self, reader: Receive, coding: str, hold: RequestHold, settings: ServerSettings) -> None:
        self._reader = reader
        self._inflater = Inflater(coding)
        self._hold = hold
        self._settings = settings
        self._arrived = self._done = False

    async def __call__(self) -> Message:
        """The next message of the request, whose body is as the client had it before it compressed it."""
        if self._done:
            return await self._reader()
        while self._inflater.hungry and not self._arrived:
            message = await self._reader()
            if message["type"] != "http.request":
                return message
            self._arrived = not message.get("more_body", False)
            self._inflater.feed(message.get("body", b""))
        inflated = self._inflater.take()
        if self._hold.bytes + len(inflated) > self._settings.max_body:
            raise BodyTooLarge(_too_large(self._settings))
        self._hold.hold(len(inflated))
        await anyio.lowlevel.checkpoint()  # inflating is work, and other requests go on between its pieces
        if self._arrived and self._inflater.hungry:
            self._inflater.finish()
            self._done = True
        return {"type": "http.request", "body": inflated, "more_body": not self._done}


def _check_framing(scope: Scope) -> None:
    """Raises AmbiguousRequest where programs in between could see another end of the body; the parser has the rest."""
    headers = dict(scope["headers"])
    if scope["http_version"] not in ("1.0", "1.1"):
        raise AmbiguousRequest(f"HTTP/{scope['http_version']} is not spoken here; send HTTP/1.1")
    if (coding := headers.get(b"transfer-encoding")) is not None:
        if scope["http_version"] == "1.0":
            raise AmbiguousRequest("HTTP/1.0 has no Transfer-Encoding; send Content-Length, or HTTP/1.1")
        if coding.strip().lower() != b"chunked":
            raise AmbiguousRequest("Transfer-Encoding is not supported but for chunked")
    if b"upgrade" in headers and (coding is not None or headers.get(b"content-length", b"0") != b"0"):
        raise AmbiguousRequest(
            "Upgrade is not supported for a request with a body; send it as HTTP/1.1 without Upgrade (for HTTP clients "
            "that begin with HTTP/2, that is an option)"
        )


def _check_length(headers: list[tuple[bytes, bytes]], settings: ServerSettings) -> None:
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit():
                raise MalformedRequest("Content-Length is not a number")
            if int(value) > settings.max_body:
                raise BodyTooLarge(_too_large(settings))


def _too_large(settings: ServerSettings) -> str:
    return f"the body is larger than the {settings.max_body} bytes that this server takes (--max-body)"
