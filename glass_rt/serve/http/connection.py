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
LINGER_S = 5.0  # for a body that nobody reads: the client may still be sending it when it is refused
WRITE_TIMEOUT_S = 30.0  # for the client to take some of an answer


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's protocol on httptools, which

    - answers 408 and closes where a request's headers are not there in time, counted from its first byte, or from the
      connection's beginning;
    - answers 431 and closes where headers, trailers or chunk extensions go on and on;
    - reads and drops the rest of a body that was refused for a few seconds, so that the refusal is not lost in a
      reset, and closes if there is more;
    - gives a client up that does not take its answer; one that takes it slowly gets all of it.
    """

    header_timeout_s: ClassVar[float] = 10.0

    _header_timer: TimerHandle | None = None
    _linger_timer: TimerHandle | None = None
    _write_timer: TimerHandle | None = None
    _unproductive = 0
    _unsent = 0
    _message_open = False

    def connection_made(self, transport: BaseTransport) -> None:
        """The time for the first request's headers begins."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._header_timer = self.loop.call_later(self.header_timeout_s, self._headers_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """No timer outlives its connection."""
        for timer in (self._header_timer, self._linger_timer, self._write_timer):
            _cancel(timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, whose callbacks say whether the bytes were of use."""
        self._unproductive += len(data)
        super().data_received(data)
        if self._unproductive > MAX_UNPRODUCTIVE:
            self._close_with(b"431 Request Header Fields Too Large")
        elif self._header_timer is None and not self._message_open and not self._answer_due:
            # uvicorn takes any byte for the next request's, an empty line or the end of a refused body too.
            self._header_timer = self.loop.call_later(self.header_timeout_s, self._headers_late)

    def on_message_begin(self) -> None:
        """The time for this request's headers begins."""
        self._message_open = True
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_timeout_s, self._headers_late)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The headers are there."""
        self._unproductive = 0
        _cancel(self._header_timer)
        self._header_timer = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of body."""
        self._unproductive = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request is there."""
        self._unproductive = 0
        self._message_open = False
        _cancel(self._linger_timer)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer was handed to the transport."""
        super().on_response_complete()
        self._watch_unsent()
        if not self._message_open or not self.cycle.response_complete:
            return
        if self.expect_100_continue:  # it may never send the body, and then its next request would be taken for it
            self.transport.close()
        else:
            _cancel(self._linger_timer)
            self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)

    @property
    def _answer_due(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _headers_late(self) -> None:
        self._header_timer = None
        if self._answer_due:  # the next request is behind it: look again later
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
        if not self._answer_due:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


def connection_class(header_timeout_s: float) -> type[BoundedConnection]:
    """The class of a server's connections, for uvicorn to make them from."""
    return type("Connection", (BoundedConnection,), {"header_timeout_s": header_timeout_s})


def _cancel(timer: TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
