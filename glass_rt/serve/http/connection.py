"""One HTTP connection, with the limits that uvicorn leaves to a proxy: slow or endless headers, unread bodies."""

from __future__ import annotations

from asyncio import BaseTransport, TimerHandle
from typing import ClassVar

from glass_rt.errors import MissingDependency

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    raise MissingDependency("uvicorn with httptools", "serve", "glass-rt serve") from None

MAX_UNPRODUCTIVE = 64 << 10  # bytes that neither end the headers nor belong to the body
LINGER_S = 5.0  # for the rest of a refused body, which the client may still be sending
WRITE_TIMEOUT_S = 30.0  # for the client to read some of a response


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's protocol on httptools, with these limits:

    - Where a request's headers are not complete in time, it responds with 408 and closes. Time counts from the
      request's first byte, or from the beginning of the connection.
    - Where headers, trailers or chunk extensions are too long, it responds with 431 and closes.
    - It reads and drops the rest of a refused body for a few seconds, since a reset could lose the refusal. It closes
      if there is more.
    - Where the client reads nothing of its response for a while, it aborts the connection. A slow client gets all of
      the response.
    """

    header_timeout_s: ClassVar[float] = 10.0

    _header_timer: TimerHandle | None = None
    _linger_timer: TimerHandle | None = None
    _write_timer: TimerHandle | None = None
    _unproductive = 0
    _unsent = 0
    _message_open = False

    def connection_made(self, transport: BaseTransport) -> None:
        """Starts the timer of the first request's headers."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._header_timer = self.loop.call_later(self.header_timeout_s, self._headers_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops all timers."""
        for timer in (self._header_timer, self._linger_timer, self._write_timer):
            _cancel(timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, whose callbacks reset the count of unproductive bytes."""
        self._unproductive += len(data)
        super().data_received(data)
        if self._unproductive > MAX_UNPRODUCTIVE:
            self._close_with(b"431 Request Header Fields Too Large")
        elif self._header_timer is None and not self._message_open and not self._response_due:
            # uvicorn takes any byte for the next request's, an empty line or the end of a refused body too.
            self._header_timer = self.loop.call_later(self.header_timeout_s, self._headers_late)

    def on_message_begin(self) -> None:
        """Starts the timer of this request's headers."""
        self._message_open = True
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_timeout_s, self._headers_late)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stops the timer of the headers, which are complete."""
        self._unproductive = 0
        _cancel(self._header_timer)
        self._header_timer = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Takes a piece of the body, which is productive."""
        self._unproductive = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stops waiting for the rest of a refused body: the request is complete."""
        self._unproductive = 0
        self._message_open = False
        _cancel(self._linger_timer)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Watches that the client reads the response, and waits for the rest of a refused body."""
        super().on_response_complete()
        self._watch_unsent()
        if not self._message_open or not self.cycle.response_complete:
            return
        if self.expect_100_continue:  # a client that does not send the body would send its next request in that place
            self.transport.close()
        else:
            _cancel(self._linger_timer)
            self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)

    @property
    def _response_due(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _headers_late(self) -> None:
        self._header_timer = None
        if self._response_due:  # a response is still due, and the next request waits behind it
            self._header_timer = self.loop.call_later(self.header_timeout_s, self._headers_late)
        elif self._message_open:
            self._close_with(b"408 Request Timeout")
        else:
            self.transport.close()

    def _watch_unsent(self) -> None:
        _cancel(self._write_timer)
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent:
            self._write_timer = self.loop.call_later(WRITE_TIMEOUT_S, self._look_at_unsent)

    def _look_at_unsent(self) -> None:
        if self.transport.get_write_buffer_size() < self._unsent:
            self._watch_unsent()
        else:
            self.transport.abort()

    def _close_with(self, status: bytes) -> None:
        if self.transport.is_closing():
            return
        if not self._response_due:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


def connection_class(header_timeout_s: float) -> type[BoundedConnection]:
    """The class of a server's connections, which uvicorn instantiates."""
    return type("Connection", (BoundedConnection,), {"header_timeout_s": header_timeout_s})


def _cancel(timer: TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
