"""One HTTP connection, with the limits that uvicorn leaves to a proxy: slow or endless headers, unread bodies."""

from __future__ import annotations

from asyncio import BaseTransport, TimerHandle
from typing import TYPE_CHECKING, ClassVar

from glass_rt.errors import MissingDependency

try:
    import httptools
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    raise MissingDependency("uvicorn with httptools", "serve", "glass-rt serve") from None

if TYPE_CHECKING:
    from asyncio import Transport

MAX_UNPRODUCTIVE = 64 << 10  # bytes that neither end the headers nor belong to the body
LINGER_S = 5.0  # for the rest of a refused request, which the client may still be sending
LINGER_BYTES = 1 << 20  # of what is no request: its client does not say how much it will send
WRITE_TIMEOUT_S = 30.0  # for the client to read some of a response
HALF_CLOSED_S = 1.0  # without a response, after which the server looks whether its client is there

NOSNIFF = b"x-content-type-options: nosniff\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's protocol on httptools, with these limits:

    - Where a request's headers are not complete in time, it responds with 408 and closes. Time counts from the
      request's first byte, or from the beginning of the connection.
    - Where headers, trailers or chunk extensions are too long, it responds with 431 and closes.
    - It reads and drops the rest of what it refuses for a few seconds, since a reset could lose the refusal. Where the
      connection is to end, it ends its own side first (a half-close), and closes once the client has ended or sends on.
    - Where the client reads nothing of its response for a while, it aborts the connection. A slow client gets all of
      the response.

    A client may end its side of the connection once its request is complete, and gets its response. A client that has
    hung up looks the same until something is sent to it. So where the response is not there after a while, the server
    sends an interim one, 100 Continue, again and again: a client that is there ignores it, one that is not has the
    connection reset, and its request is given up.
    """

    header_timeout_s: ClassVar[float] = 10.0

    _header_timer: TimerHandle | None = None
    _linger_timer: TimerHandle | None = None
    _write_timer: TimerHandle | None = None
    _half_closed_timer: TimerHandle | None = None
    _unproductive = 0
    _unsent = 0
    _drained: int | None = None  # bytes since this side of the connection has ended
    _drain_at_most: int | None = None
    _message_open = False
    _body_open = False  # of the message that the latest cycle is for
    _deaf = False
    _half_closed = False

    def connection_made(self, transport: BaseTransport) -> None:
        """Starts the timer of the first request's headers."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._header_timer = self.loop.call_later(self.header_timeout_s, self._headers_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops all timers."""
        for timer in (self._header_timer, self._linger_timer, self._write_timer, self._half_closed_timer):
            _cancel(timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, whose callbacks reset the count of unproductive bytes."""
        if self._refused:
            self._drain(len(data))
            return
        self._unproductive += len(data)
        super().data_received(data)
        if not self._refused:
            self._look_at_headers()

    def _look_at_headers(self) -> None:
        if self._unproductive > MAX_UNPRODUCTIVE:
            self._close_with(b"431 Request Header Fields Too Large")
        elif self._header_timer is None and not self._message_open and not self._response_due:
            # uvicorn takes any byte for the next request's, an empty line or the end of a refused body too.
            self._header_timer = self.loop.call_later(self.header_timeout_s, self._headers_late)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has ended its side. True keeps the other side open, for the responses to whole requests."""
        if self._drained is not None or self._message_open or not self._response_due:
            return False
        self._half_closed = True
        self._half_closed_timer = self.loop.call_later(HALF_CLOSED_S, self._look_for_client)
        return True

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
        self._take_host_from_target()
        super().on_headers_complete()
        self._body_open = True
        self.cycle.transport = _ResponseTransport(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Takes a piece of the body, which is productive."""
        self._unproductive = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stops waiting for the rest of a refused body: the request is complete."""
        self._unproductive = 0
        self._message_open = self._body_open = False
        _cancel(self._linger_timer)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Watches that the client reads the response, and waits for the rest of a refused body."""
        if self._drained is not None:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
            self._watch_unsent()
            return
        super().on_response_complete()
        self._watch_unsent()
        if self._half_closed and not self._response_due:
            self.transport.close()
        if not self._message_open or not self.cycle.response_complete:
            return
        if self.expect_100_continue:  # a client that does not send the body would send its next request in that place
            self.transport.close()
        else:
            _cancel(self._linger_timer)
            self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Responds to what is no HTTP request, and closes."""
        self._close_with(b"400 Bad Request", msg.encode("ascii", "replace"))

    def end(self) -> None:
        """Closes after a response: at once where the request is complete, else once its rest was dropped."""
        unread = self._message_open or self.parser.should_upgrade()  # whose body the parser passes over
        if unread and not self.expect_100_continue:
            self._linger(None)
        else:
            self.transport.close()

    @property
    def _refused(self) -> bool:
        """Whether nothing of what comes is another request."""
        return self._deaf or self._drained is not None

    @property
    def _response_due(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _take_host_from_target(self) -> None:
        """Puts the host of an absolute target in the place of the Host header, as RFC 9112 (3.2.2) asks.

        A request of HTTP/1.0 needs no Host, but has one then.
        """
        if self.url[:1] in (b"/", b"*") or b"://" not in self.url:
            return
        target = httptools.parse_url(self.url)
        host = b"[%s]" % target.host if b":" in target.host else target.host
        authority = host if target.port is None else b"%s:%d" % (host, target.port)
        for index, (name, _) in enumerate(self.headers):
            if name == b"host":
                self.headers[index] = (name, authority)
        if self.parser.get_http_version() == "1.0" and not any(name == b"host" for name, _ in self.headers):
            self.headers.append((b"host", authority))

    def _headers_late(self) -> None:
        self._header_timer = None
        if self._response_due:  # a response is still due, and the next request waits behind it
            self._header_timer = self.loop.call_later(self.header_timeout_s, self._headers_late)
        elif self._message_open:
            self._close_with(b"408 Request Timeout")
        else:
            self.transport.close()

    def _look_for_client(self) -> None:
        if self.transport.is_closing() or not self._response_due:
            return
        if not self.cycle.response_started and self.scope["http_version"] != "1.0":
            self.transport.write(CONTINUE)
        self._half_closed_timer = self.loop.call_later(HALF_CLOSED_S, self._look_for_client)

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

    def _close_with(self, status: bytes, text: bytes = b"") -> None:
        """The last response of the connection, in its turn: requests that came whole before get theirs first."""
        if self.transport.is_closing():
            return
        if self._response_due:
            if not self._body_open:
                self._deaf, self.cycle.keep_alive = True, False
                return
            if self.pipeline or self.cycle.response_started:
                self.transport.close()
                return
            self.cycle.disconnected = True  # the request is this one, and the response is written here alone
            self.cycle.message_event.set()
        length = b"content-length: %d\r\ncontent-type: text/plain; charset=utf-8\r\n" % len(text)
        self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + length + NOSNIFF + b"connection: close\r\n\r\n" + text)
        self._linger(LINGER_BYTES)

    def _linger(self, at_most: int | None) -> None:
        """Ends this side of the connection, and drops what comes until the client ends its own, or time runs out."""
        if self._drained is not None or self.transport.is_closing():
            return
        self._drained, self._drain_at_most = 0, at_most
        _cancel(self._header_timer)
        _cancel(self._linger_timer)
        self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)
        self.transport.write_eof()
        self.flow.resume_reading()

    def _drain(self, size: int) -> None:
        if self._drained is None:
            return
        self._drained += size
        if self._drain_at_most is not None and self._drained > self._drain_at_most:
            self.transport.close()


class _ResponseTransport:
    """What a response is written to: the connection's transport, which `close` leaves open for a refused body."""

    def __init__(self, connection: BoundedConnection) -> None:
        self._connection = connection
        self._transport: Transport = connection.transport
        self.write = self._transport.write
        self.is_closing = self._transport.is_closing

    def close(self) -> None:
        """Ends the connection, which lets the client read the response first."""
        self._connection.end()


def connection_class(header_timeout_s: float) -> type[BoundedConnection]:
    """The class of a server's connections, which uvicorn instantiates."""
    return type("Connection", (BoundedConnection,), {"header_timeout_s": header_timeout_s})


def _cancel(timer: TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
