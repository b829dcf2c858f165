"""The HTTP that a load needs: one connection, one request at a time, and no more work than sending and reading."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class HttpResponse:
    """A response: its status, and its body as it came."""

    status: int
    body: bytes


class ConnectionLost(Exception):
    """The connection ended before the response was whole."""


class Connection:
    """A connection that stays open between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connects."""
        return cls(*await asyncio.open_connection(host, port, limit=1 << 20))

    @property
    def is_open(self) -> bool:
        """Whether the connection can take a request: the client has not seen the server close it."""
        return not self._reader.at_eof() and not self._writer.is_closing()

    async def exchange(self, request: bytes) -> HttpResponse:
        """Sends a whole request and reads its response, which has a Content-Length. Raises ConnectionLost."""
        try:
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            return HttpResponse(int(head[9:12]), await self._reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError, IndexError) as error:
            raise ConnectionLost(repr(error)) from error

    def close(self) -> None:
        """Hangs up."""
        self._writer.close()


def post(path: str, host: str, body: bytes) -> bytes:
    """The bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/octet-stream\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
