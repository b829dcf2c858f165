"""Raw HTTP from a seed: broken, ambiguous, cut short, slow, from other sites; a good client is answered all along."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator

import pytest

from tests.attack.serving import SEED, TRIALS, bystander, check_unharmed, good_picture
from tests.serving import VERDICT, Process, serve_process
from tests.support import Bundles

pytestmark = pytest.mark.attack

MEBIBYTE = 1 << 20
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "CONNECT", "get", "PRI", "G\0T")
PATHS = ("/", VERDICT, "/v2", "/v2/models/mobilenet_v3_small/infer", "/metrics", "/healthz", "*", "//", "/%00", "/..")
TARGETS = (
    "{}",
    "{}",
    "{}",
    "http://localhost{}",
    "http://evil.example{}",
    "http://u@localhost:1{}",
    "{}?crops=1&seed=2",
)
VERSIONS = ("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.9", "")
HEADERS = (
    "Host: localhost",
    "Host: evil.example",
    "Host:",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: Upgrade",
    "Upgrade: h2c",
    "Content-Length: {size}",
    "Content-Length: {size}",
    "Content-Length: 0",
    "Content-Length: 99999999",
    "Content-Length: -1",
    "Content-Length : 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "transfer-encoding: \tchunked",
    "Expect: 100-continue",
    "Content-Type: multipart/form-data; boundary=b",
    "Content-Type: application/json",
    "Content-Encoding: gzip",
    "Inference-Header-Content-Length: 7",
    "Origin: null",
    "Origin: http://localhost",
    "Sec-Fetch-Site: cross-site",
    "X-Request-ID: a\tb",
    "X: " + "a" * 5000,
    "no colon",
    " folded: 1",
)
BODIES = (
    b"",
    b"abc",
    good_picture(),
    good_picture()[:40],
    b"3\r\nabc\r\n0\r\n\r\n",
    b"ffffffff\r\nabc",
    b"0\r\nX: y\r\n\r\n",
    b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nabc\r\n--b--\r\n',
    b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": ["YQ=="]}]}',
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    bytes(300_000),
    b"\r\n" * 50,
)
ENDS = ("\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\0")


@pytest.fixture(scope="module")
def target(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("http_attack")
    options = ("--max-body", "256K", "--body-timeout", "1", "--header-timeout", "1", "--queue-images", "16")
    with serve_process(bundles("mobilenet_v3_small").folder, folder, *options) as started:
        yield started
        assert started.stop() == 0


def one_request(chance: random.Random) -> bytes:
    """A request of random parts; a third are whole but for their body, and perhaps a header."""
    body, path = chance.choice(BODIES), chance.choice(PATHS)
    if chance.random() < 1 / 3:
        end, line = "\r\n", f"{chance.choice(METHODS[:2])} {path} HTTP/1.1"
        headers = ["Host: localhost", *chance.sample(HEADERS, chance.randrange(2))]
    else:
        target = chance.choice(TARGETS).format(path)
        end, line = chance.choice(ENDS), f"{chance.choice(METHODS)} {target} {chance.choice(VERSIONS)}"
        headers = ["Host: localhost"] * (chance.random() < 0.8) + chance.sample(HEADERS, chance.randrange(4))
    headers += ["Content-Length: {size}"] * (chance.random() < 0.5)
    head = end.join([line, *(header.format(size=len(body)) for header in headers), "", ""])
    return head.encode("latin-1") + body


def mangled(chance: random.Random, data: bytes) -> bytes:
    """The data with some bytes exchanged, or without their end."""
    if chance.random() < 0.3:
        mutable = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            mutable[chance.randrange(len(mutable))] = chance.randrange(256)
        data = bytes(mutable)
    return data[: chance.randrange(1, len(data) + 1)] if chance.random() < 0.15 else data


def attack(server: Process, chance: random.Random) -> bytes:
    """Sends one to three requests in pieces, ends its side or hangs up; what came back."""
    data = b"".join(mangled(chance, one_request(chance)) for _ in range(chance.choice((1, 1, 1, 2, 3))))
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.3) as connection:
        try:
            cut = chance.randrange(len(data)) if chance.random() < 0.3 else len(data)
            for piece in (data[:cut], data[cut:]):
                connection.sendall(piece)
            if chance.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
            if chance.random() < 0.2:
                return b""
            while piece := connection.recv(1 << 16):
                received += piece
        except OSError:  # its time is up, or the server has hung up
            pass
    return received


def test_no_request_does_harm(target: Process) -> None:
    chance, peak, statuses = random.Random(SEED), target.peak_bytes(), set[int]()
    picture = good_picture()
    with bystander(lambda: target.post(picture, "?crops=1").status, 200) as client:
        for _ in range(TRIALS):
            received = attack(target, chance)
            statuses |= {int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)}
            assert b"Traceback" not in received
            assert b"glass_rt/" not in received
            if received:
                assert received.startswith(b"HTTP/1.1 ")
                assert b"evil.example/" not in received
    assert not client.refused
    assert client.answered
    assert 500 not in statuses
    assert {200, 400} <= statuses, statuses
    assert 403 in statuses or TRIALS < 50  # a few trials may not draw one of another origin
    check_unharmed(target, peak, 100 * MEBIBYTE)


def test_connections_that_say_little_cost_nobody_else_anything(target: Process) -> None:
    """Idle, with half of their headers, with half of their body: all at once."""
    picture, chance = good_picture(), random.Random(SEED)
    head = b"POST /v1/verdict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n"
    peak = target.peak_bytes()
    connections = []
    try:
        with bystander(lambda: target.post(picture, "?crops=1").status, 200) as client:
            for _ in range(min(TRIALS, 300)):
                connection = socket.create_connection(("127.0.0.1", target.port), timeout=5)
                connection.sendall(chance.choice((b"", head[:30], head[:-2], head, head + bytes(1000))))
                connections.append(connection)
            for connection in connections:  # all of them are ended by the server
                while connection.recv(1 << 16):
                    pass
        assert not client.refused
        assert client.answered
    finally:
        for connection in connections:
            connection.close()
    check_unharmed(target, peak, 100 * MEBIBYTE)
