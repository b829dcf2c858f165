"""Clients that are slow on purpose, or send without end."""

import http.client
import json
import select
import socket
from time import monotonic, sleep

import cv2
import numpy as np
import pytest

from glass_rt.serve.http.connection import MAX_UNPRODUCTIVE
from tests.serving import VERDICT, Plant, Process, form, serving, wait_until

pytestmark = pytest.mark.slow

HEAD = f"POST {VERDICT} HTTP/1.1\r\nHost: localhost\r\n".encode()


def talk(server: Process, *pieces: bytes) -> bytes:
    """Sends the pieces, and returns all bytes until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return until_closed(connection)


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    while True:
        try:
            data = connection.recv(1 << 16)
        except ConnectionResetError:
            return received
        if not data:
            return received
        received += data


def test_a_connection_that_says_nothing_is_closed(server: Process) -> None:
    assert talk(server) == b""


def test_headers_that_never_end_in_time_get_408(server: Process) -> None:
    assert talk(server, HEAD, b"X-Slow: 1").startswith(b"HTTP/1.1 408 ")


def test_headers_that_drip_get_no_more_time(server: Process) -> None:
    """The time counts from the first byte, not from the last."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as connection:
        connection.sendall(HEAD)
        began = monotonic()
        while monotonic() - began < 20:
            try:
                connection.sendall(b"X-Drip: 1\r\n")
                if connection.recv(100).startswith(b"HTTP/1.1 408 "):
                    return
            except TimeoutError:
                continue
    pytest.fail("it was let drip on")


def test_a_body_that_drips_gets_408_and_is_let_go(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        began, response = monotonic(), b""
        while monotonic() - began < 20:
            try:
                if not response:
                    connection.sendall(b"x")
                response += connection.recv(1000)  # headers and body may come one after the other
            except TimeoutError:
                continue
            if b"body_too_slow" in response:
                assert response.startswith(b"HTTP/1.1 408 ")
                break
        else:
            pytest.fail("it was let drip on")
    assert server.figure("glass_rt_queue_bytes") == 0


@pytest.mark.parametrize(
    "start",
    [
        HEAD,  # one header after another
        HEAD + b"X-Long: ",  # one header that goes on and on
        b"GET /" + b"a" * 100,  # a path that does
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;",  # an extension of a chunk
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
    ],
    ids=["headers", "header", "path", "extension", "trailer"],
)
def test_what_goes_on_and_on_is_cut_off(server: Process, start: bytes) -> None:
    line = b"X-More: 1\r\n" if start == HEAD else b"a" * 1000
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        sent = 0
        try:
            connection.sendall(start)
            while sent < 1 << 28:
                connection.sendall(line * 100)
                sent += 100 * len(line)
        except (ConnectionResetError, BrokenPipeError):
            pass
        response = until_closed(connection)
    assert sent < 1 << 28
    assert response == b"" or response.split()[1] in (b"431", b"400"), response
    assert MAX_UNPRODUCTIVE < 1 << 20


def test_the_rest_of_a_refused_body_is_read_so_that_the_refusal_arrives(server: Process) -> None:
    chunk = b"%x\r\n" % (1 << 20) + bytes(1 << 20) + b"\r\n"
    response = talk(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 30, b"0\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 413 ")


def test_a_refused_body_that_never_ends_is_hung_up_on(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        assert until_closed(connection).startswith(b"HTTP/1.1 404 ")


def test_requests_behind_one_another_are_answered_in_order(server: Process, picture: bytes) -> None:
    post = HEAD + f"Content-Length: {len(picture)}\r\n\r\n".encode() + picture
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    responses = talk(server, post + post + get)
    assert responses.count(b"HTTP/1.1 200 OK") == 3
    assert responses.rindex(b'"ready":true') > responses.rindex(b'"label"')


def test_empty_lines_between_requests_do_not_keep_a_connection_open(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
        connection.sendall(b"\r\n")
        until_closed(connection)


def test_what_is_not_http_gets_400(server: Process) -> None:
    assert talk(server, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03").startswith(b"HTTP/1.1 400 ")


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it_and_one_that_takes_none_is_given_up(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    done, large = cv2.imencode(".jpg", noise)
    assert done
    body, headers = form(*[("a.jpg", large.tobytes())] * 6)
    with serving(plant) as here:
        slow, idle = here.connect(), here.connect()
        for connection in (slow, idle):
            connection.request("POST", f"{VERDICT}?overlay=1&crops=1", body, headers)
        monkeypatch.setattr("glass_rt.serve.http.connection.WRITE_TIMEOUT_S", 0.5)
        response, left = slow.getresponse(), idle.getresponse()
        content = b""
        while piece := response.read(1 << 18):
            content += piece
            sleep(0.05)
        assert len(json.loads(content)) == 6
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            left.read()
        slow.close()
        idle.close()


def test_afterwards_nothing_is_left_open(server: Process) -> None:
    wait_until(lambda: server.figure("glass_rt_requests_open") == 0)
    assert server.get("/readyz").status == 200


def test_a_client_that_never_takes_its_answers_is_given_up(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glass_rt.serve.http.connection.WRITE_TIMEOUT_S", 0.5)
    get = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(plant) as here, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", here.port))
        size = len(here.get("/metrics").body)
        wanted = (32 << 20) // size  # far more than the system's buffers take
        connection.settimeout(30)
        try:
            connection.sendall(get * wanted)
            while not select.select([], [], [connection], 0)[2]:
                connection.sendall(get)
                sleep(0.01)
        except OSError:
            pass
        assert len(until_closed(connection)) < wanted * size
        wait_until(lambda: here.figure("glass_rt_requests_open") == 0)
