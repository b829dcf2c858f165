"""Requests that programs could read in different ways, and connections that end before their response."""

from __future__ import annotations

import json
import re
import socket
from time import monotonic, sleep

import pytest

from glass_rt.serve.http import connection as limits
from glass_rt.serve.http.connection import LINGER_BYTES
from tests.glass_rt.serve.conftest import MAX_BODY
from tests.glass_rt.serve.http.test_connection import until_closed
from tests.serving import VERDICT, Address, Plant, Process, serving, wait_until

HOST, CLOSE = b"Host: localhost\r\n", b"Connection: close\r\n"
GET = b"GET /v2 HTTP/1.1\r\n"
POST = f"POST {VERDICT} HTTP/1.1\r\n".encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = b"3\r\nabc\r\n0\r\n\r\n"
SMUGGLED = b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n"

# Name, request, status of the only response.
FRAMING: list[tuple[str, bytes, int]] = [
    ("two Host headers", GET + HOST * 2 + CLOSE + b"\r\n", 400),
    ("two different Host headers", GET + HOST + b"Host: 127.0.0.1\r\n" + CLOSE + b"\r\n", 400),
    ("a Host of two names", GET + b"Host: localhost, localhost\r\n" + CLOSE + b"\r\n", 400),
    ("a Host with a user", GET + b"Host: me@localhost\r\n" + CLOSE + b"\r\n", 400),
    ("no Host", GET + CLOSE + b"\r\n", 400),
    ("no Host in HTTP/1.0", b"GET /v2 HTTP/1.0\r\n\r\n", 200),
    ("a target with this host", b"GET http://localhost/v2 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 200),
    ("a target with another host", b"GET http://evil.example/v2 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 403),
    ("a target before the Host", b"GET http://localhost/v2 HTTP/1.1\r\nHost: evil.example\r\n" + CLOSE + b"\r\n", 200),
    ("a target with a host in HTTP/1.0", b"GET http://evil.example/v2 HTTP/1.0\r\n\r\n", 403),
    ("a target with a host and no Host", b"GET http://localhost/v2 HTTP/1.1\r\n" + CLOSE + b"\r\n", 400),
    ("a target without a path", b"GET http://localhost HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 400),
    ("a target of two slashes", b"GET //evil.example/v2 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 404),
    ("a target without a slash", b"GET v2 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 400),
    ("CONNECT", b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 400),
    ("two equal lengths", POST + HOST + b"Content-Length: 3\r\n" * 2 + b"\r\nabc", 400),
    ("two lengths", POST + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    ("a list of lengths", POST + HOST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    ("a length with a sign", POST + HOST + b"Content-Length: +3\r\n\r\nabc", 400),
    ("a negative length", POST + HOST + b"Content-Length: -1\r\n\r\nabc", 400),
    ("a hexadecimal length", POST + HOST + b"Content-Length: 0x3\r\n\r\nabc", 400),
    ("an endless length", POST + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabc", 400),
    ("no length", POST + HOST + b"Content-Length: \r\n\r\nabc", 400),
    ("chunks and a length", POST + HOST + CHUNKED + b"Content-Length: 3\r\n\r\n" + BODY, 400),
    ("a length and chunks", POST + HOST + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n" + BODY, 400),
    ("chunks twice", POST + HOST + CHUNKED * 2 + b"\r\n" + BODY, 400),
    ("chunks and no more", POST + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + BODY, 400),
    ("chunks by another name", POST + HOST + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY, 400),
    ("chunks of gzip", POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY, 400),
    ("gzip without chunks", POST + HOST + b"Transfer-Encoding: gzip\r\n\r\n" + BODY, 400),
    ("chunks in HTTP/1.0", b"POST /v1/verdict HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n" + BODY, 400),
    ("chunks on a GET", GET + HOST + CLOSE + CHUNKED + b"\r\n" + BODY, 200),
    ("a chunk of no size", POST + HOST + CHUNKED + b"\r\nxyz\r\nabc\r\n0\r\n\r\n", 400),
    ("an endless chunk", POST + HOST + CHUNKED + b"\r\n" + b"f" * 18 + b"\r\nabc", 400),
    ("chunks with LF alone", POST + HOST + CHUNKED + b"\r\n3\nabc\n0\n\n", 400),
    ("LF alone", b"GET /v2 HTTP/1.1\nHost: localhost\nConnection: close\n\n", 400),
    ("LF in one place", b"GET /v2 HTTP/1.1\r\nHost: localhost\nConnection: close\r\n\r\n", 400),
    ("CR alone", GET + b"Host: localhost\rX: y\r\n" + CLOSE + b"\r\n", 400),
    ("a folded header", GET + HOST + b"X: a\r\n b\r\n" + CLOSE + b"\r\n", 400),
    ("a space before the colon", GET + HOST + b"Content-Length : 3\r\n" + CLOSE + b"\r\n", 400),
    ("a space before the first header", GET + b" Host: localhost\r\n" + CLOSE + b"\r\n", 400),
    ("a NUL", GET + HOST + b"X: a\0b\r\n" + CLOSE + b"\r\n", 400),
    ("a header of no name", GET + HOST + b": a\r\n" + CLOSE + b"\r\n", 400),
    ("a header of 60 kB", GET + HOST + b"X: " + b"a" * 60_000 + b"\r\n" + CLOSE + b"\r\n", 200),
    ("a header of 1 MB", GET + HOST + b"X: " + b"a" * 1_000_000 + b"\r\n" + CLOSE + b"\r\n", 431),
    ("HTTP/2.0", b"GET /v2 HTTP/2.0\r\n" + HOST + CLOSE + b"\r\n", 400),
    ("HTTP/0.9", b"GET /v2\r\n\r\n", 400),
    ("an upgrade", GET + HOST + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n", 200),
    ("an upgrade with a body", POST + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("an upgrade with chunks", POST + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + CHUNKED + b"\r\n" + BODY, 400),
    ("another request after the last", GET + HOST + CLOSE + b"\r\n" + SMUGGLED, 200),
]  # fmt: skip


def responses(received: bytes) -> list[int]:
    """The statuses of the final responses."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", received)]


def talk(server: Address, *pieces: bytes, half_close: bool = False) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
            sleep(0.02 if len(pieces) > 1 else 0)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return until_closed(connection)


@pytest.mark.parametrize(("request_", "status"), [row[1:] for row in FRAMING], ids=[row[0] for row in FRAMING])
def test_a_request_has_one_response_whoever_reads_it(server: Process, request_: bytes, status: int) -> None:
    assert responses(talk(server, request_)) == [status]


@pytest.mark.parametrize("name", ["an upgrade with a body", "an upgrade with chunks", "two Host headers", "no Host"])
def test_what_comes_after_a_refused_request_is_not_another(server: Process, name: str) -> None:
    request = next(request for named, request, _ in FRAMING if named == name)
    assert responses(talk(server, request.removesuffix(b"abc"), SMUGGLED)) == [400]


def test_a_whole_request_is_answered_before_what_is_none(server: Process, picture: bytes) -> None:
    post = POST + HOST + b"Content-Length: %d\r\n\r\n" % len(picture) + picture
    assert responses(talk(server, post + b"\x16\x03\x01\r\n\r\n" + SMUGGLED))[0] == 200


@pytest.mark.parametrize(
    ("head", "path", "size", "status"),
    [
        (b"HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n", VERDICT, 3 * MAX_BODY, 413),
        (b"HTTP/1.0\r\nContent-Length: %d\r\n", VERDICT, 3 * MAX_BODY, 413),
        (b"HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n", "/nowhere", MAX_BODY, 404),
        (b"HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n", f"{VERDICT}?crops=none", MAX_BODY, 400),
        (b"HTTP/1.1\r\nConnection: close\r\nOrigin: null\r\nContent-Length: %d\r\n", VERDICT, MAX_BODY, 403),
        (b"HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n", VERDICT, MAX_BODY, 400),
        (b"HTTP/1.1\r\nContent-Length: %d\r\nContent-Length: 1\r\n", VERDICT, LINGER_BYTES // 2, 400),
    ],
)
def test_a_refusal_is_not_lost_where_the_connection_ends(
    server: Process, head: bytes, path: str, size: int, status: int
) -> None:
    """A client that sends all of its body before it reads: a reset would take the response from it."""
    request = b"POST " + path.encode() + b" " + head % size + HOST + b"\r\n" + bytes(size)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(request)
            received = b""
            while piece := connection.recv(1 << 16):  # raises where the connection is reset
                received += piece
        assert responses(received) == [status]


def test_a_client_that_reads_its_refusal_and_stays_is_hung_up_on(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER_S", 0.3)
    request = POST + HOST + CLOSE + b"Content-Length: %d\r\n\r\n" % (1 << 40)
    with serving(plant) as here, socket.create_connection(("127.0.0.1", here.port), timeout=30) as connection:
        connection.sendall(request)
        assert responses(until_closed(connection)) == [413]
        began = monotonic()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while monotonic() - began < 20:
                connection.sendall(bytes(1000))
                sleep(0.01)


def test_who_ends_their_side_gets_their_response(server: Process, picture: bytes) -> None:
    post = POST + HOST + b"Content-Length: %d\r\n\r\n" % len(picture) + picture
    for request, statuses in (
        (GET + HOST + b"\r\n", [200]),
        (post, [200]),
        (post * 3, [200, 200, 200]),
        (post.replace(b"HTTP/1.1", b"HTTP/1.0"), [200]),
        (POST + HOST + b"Content-Length: 8\r\n\r\nno image", [415]),
        (POST + HOST + CHUNKED + b"\r\n" + BODY, [415]),
    ):
        received = talk(server, request, half_close=True)
        assert received.startswith(b"HTTP/1.1 %d " % statuses[0])
        assert responses(received) == statuses
    assert responses(talk(server, post[:-1], half_close=True)) == [], "of a request that is not whole"
    wait_until(lambda: server.figure("glass_rt_requests_open") == 0)


def test_who_ends_their_side_waits_as_long_as_the_others(
    plant: Plant, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HALF_CLOSED_S", 0.05)
    post = POST + HOST + b"Content-Length: %d\r\n\r\n" % len(picture) + picture
    with serving(plant) as here, socket.create_connection(("127.0.0.1", here.port), timeout=30) as connection:
        plant.engine.go_on.clear()
        connection.sendall(post)
        connection.shutdown(socket.SHUT_WR)
        sleep(0.5)
        assert here.figure("glass_rt_queue_images") == 1
        plant.engine.go_on.set()
        received = until_closed(connection)
        assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"), "what tells that the client is there"
        assert responses(received) == [200]
        assert json.loads(received.rpartition(b"\r\n\r\n")[2])["label"]
