"""ASGI middleware that keeps other web sites out: names of this server in Host, origins of pages in Origin.

A browser sends a page's requests to any server that the page names, this one on its user's machine too. It lets the
page read the responses where the server says so, and also where the page's own name has come to lead to this server
(DNS rebinding). So:

- Requests to a name that is not this server's are refused, where the names are known: on loopback, and where the
  operator lists them.
- Requests that may judge are refused where a page of another origin sends them.
- Only pages of the origins that the operator lists may read responses.

Programs other than browsers send no Origin, and are not affected.

Sources: RFC 9110, 7.2 (Host); the Fetch standard, 3.2 (Origin, CORS); Fetch Metadata Request Headers (Sec-Fetch-Site).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glass_rt.errors import GlassError, UsageError
from glass_rt.serve.http.responses import error_response
from glass_rt.serve.refusals import AmbiguousRequest, ForeignHost, ForeignOrigin

Headers = Sequence[tuple[bytes, bytes]]

LOCAL = ("localhost", "127.0.0.1", "[::1]")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LONGEST = 100  # characters of a client's value in an error
DEFAULT_PORTS = {"http": "80", "https": "443"}

# What a page may send, and read of a response, beside what every page may.
REQUEST_HEADERS = (
    "Authorization, X-API-Key, Content-Type, Content-Encoding, X-Request-ID, Inference-Header-Content-Length"
)
RESPONSE_HEADERS = "X-Request-ID, Retry-After, Inference-Header-Content-Length"
PREFLIGHT_AGE_S = 600

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{0,253})(?::(\d{0,5}))?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::(\d{1,5}))?")


@dataclass(frozen=True)
class OriginPolicy:
    """`hosts`: the names of this server in lower case, without ports; None where any name is taken.

    `origins`: those whose pages may send requests and read responses, as browsers write them.
    """

    hosts: frozenset[str] | None = frozenset(LOCAL)
    origins: frozenset[str] = frozenset()


def policy_for(
    host: str, address: str, allow_hosts: Sequence[str] = (), allow_origins: Sequence[str] = ()
) -> OriginPolicy:
    """The policy of a server that was told to listen on `host`, whose socket has the IP address `address`.

    Names are checked on loopback, and elsewhere where `allow_hosts` lists some. Raises UsageError.
    """
    origins = frozenset(checked_origin(origin) for origin in allow_origins)
    allowed = [checked_host(name) for name in allow_hosts]
    if not allowed and not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return OriginPolicy(None, origins)
    return OriginPolicy(frozenset((*LOCAL, _bracketed(host.lower()), _bracketed(address), *allowed)), origins)


def checked_host(name: str) -> str:
    """A name as `OriginPolicy` has it. Raises UsageError where it is no name or IP address."""
    found = _HOST.fullmatch(_bracketed(name.lower()))
    if found is None or not found[1] or found[2]:
        raise UsageError(f"--allow-host: {name[:LONGEST]!r} is no host name; write it without scheme, port and path")
    return found[1].removesuffix(".")


def checked_origin(origin: str) -> str:
    """An origin as browsers write it. Raises UsageError where it is none."""
    found = _ORIGIN.fullmatch(origin.lower().removesuffix("/"))
    if found is None:
        raise UsageError(
            f"--allow-origin: {origin[:LONGEST]!r} is no origin; write scheme://host, or scheme://host:port"
        )
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" + (f":{port}" if port and port != DEFAULT_PORTS.get(scheme) else "")


class OriginCheck:
    """Refuses requests by their Host and Origin before anything else sees them, and answers preflight requests."""

    def __init__(self, app: ASGIApp, policy: OriginPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = _value(scope["headers"], b"origin")
        readable = self._readable(send, origin) if self._policy.origins else send
        try:
            check_host(scope, self._policy)
            check_origin(scope, self._policy)
        except GlassError as error:
            await error_response(error, scope["path"])(scope, receive, readable)
            return
        if origin in self._policy.origins and _is_preflight(scope):
            await _allow(scope, readable)
        else:
            await self._app(scope, receive, readable)

    def _readable(self, send: Send, origin: str | None) -> Send:
        """A `send` whose responses say whether the page may read them."""
        added = [(b"vary", b"Origin")]
        if origin in self._policy.origins:
            added.append((b"access-control-allow-origin", str(origin).encode()))
            added.append((b"access-control-expose-headers", RESPONSE_HEADERS.encode()))

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        return send_readable


def check_host(scope: Scope, policy: OriginPolicy) -> None:
    """Raises AmbiguousRequest unless there is one valid Host, and ForeignHost where it is not this server's.

    HTTP/1.0, which no browser speaks, has none.
    """
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if len(values) != 1:
        if not values and scope["http_version"] == "1.0":
            return
        raise AmbiguousRequest(f"the request has {len(values) or 'no'} Host headers; expected one")
    host = host_name(values[0])
    if host is None:
        raise AmbiguousRequest(f"Host is {values[0][:LONGEST]!r}; expected a name or an IP address, and maybe a port")
    if policy.hosts is not None and host not in policy.hosts and host != _own_address(scope):
        raise ForeignHost(
            f"Host is {values[0][:LONGEST]!r}, which is no name of this server: a name that a proxy passes on, or "
            "another name of this machine, needs --allow-host NAME"
        )


def host_name(value: str) -> str | None:
    """The name in a Host header, in lower case and without port and last dot; None where the value is none."""
    found = _HOST.fullmatch(value.strip())
    return None if found is None else found[1].lower().removesuffix(".")


def check_origin(scope: Scope, policy: OriginPolicy) -> None:
    """Raises ForeignOrigin where a page of another origin sends a request that may judge."""
    if scope["method"] in SAFE_METHODS:
        return
    origin, site = _value(scope["headers"], b"origin"), _value(scope["headers"], b"sec-fetch-site")
    if origin in policy.origins:
        return
    foreign = (
        site not in ("same-origin", "none") if site is not None else origin is not None and not _same(origin, scope)
    )
    if foreign:
        shown = "another site" if origin is None else repr(origin[:LONGEST])
        raise ForeignOrigin(
            f"a page of {shown} sent this request: pages of other origins may do so with --allow-origin ORIGIN"
        )


def _same(origin: str, scope: Scope) -> bool:
    """Whether a page's origin is this server by the name that the page used; a proxy may have ended its TLS."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return False
    scheme, host, port = found.groups()
    wanted = (_value(scope["headers"], b"host") or "").lower()
    standard = DEFAULT_PORTS.get(scheme, "")
    return wanted in {f"{host}:{port or standard}", *([host] if port in (None, standard) else [])}


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and _value(scope["headers"], b"access-control-request-method") is not None


async def _allow(scope: Scope, send: Send) -> None:
    headers = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": REQUEST_HEADERS,
        "Access-Control-Max-Age": str(PREFLIGHT_AGE_S),
    }
    if _value(scope["headers"], b"access-control-request-private-network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 204, "headers": encoded})
    await send({"type": "http.response.body", "body": b""})


def _value(headers: Headers, wanted: bytes) -> str | None:
    """The first value of a header, whose name is in lower case."""
    return next((value.decode("latin-1") for name, value in headers if name == wanted), None)


def _own_address(scope: Scope) -> str | None:
    """The IP address of this machine that the connection came to: no page can have it as the name of its own site."""
    return _bracketed(scope["server"][0]) if scope.get("server") else None


def _bracketed(host: str) -> str:
    """A host as in a URL: IPv6 addresses stand in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
