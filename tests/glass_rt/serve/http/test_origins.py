"""Names that requests may call this server by, and the web sites whose pages may send them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from glass_rt.errors import UsageError
from glass_rt.serve.http.origins import LOCAL, OriginPolicy, checked_host, checked_origin, host_name, policy_for
from tests.serving import VERDICT, Address, HttpResponse, Process, serve_process
from tests.support import Bundles

SITE = "https://app.example"
MODEL = "/v2/models/mobilenet_v3_small"
PAGES = ("/", "/v1/verdict", "/v2", MODEL, f"{MODEL}/infer", "/healthz", "/metrics", "/openapi.json", "/nothing")


@pytest.fixture(scope="module")
def lenient(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server behind a proxy that passes its own name, with a site whose pages may ask."""
    options = ("--allow-host", "proxy.example", "--allow-origin", f"{SITE}/", "--allow-origin", "http://localhost:3000")
    with serve_process(bundles("mobilenet_v3_small").folder, tmp_path_factory.mktemp("lenient"), *options) as started:
        yield started


def asked(server: Address, method: str, path: str, **headers: str) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.ask(method, path, b"no image" if method == "POST" else None, named)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "1.2.3.4", "", "."])
def test_a_rebound_name_reads_nothing(server: Process, path: str, host: str) -> None:
    """DNS rebinding: a page's own name has come to lead to this server, so its browser calls it the same origin."""
    for method in ("GET", "POST"):
        response = asked(server, method, path, Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin")
        assert response.status == 403
        said = response.json["error"]
        message = said if path.startswith("/v2") else said["message"]
        assert "--allow-host" in message
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost", "localhost.", "localhost:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80"]
)
def test_local_names_are_known(server: Process, host: str) -> None:
    assert asked(server, "GET", "/v2", Host=host).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),  # a program, or a page's own form of old
        ({"Origin": "http://localhost"}, 415),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 415),
        ({"Sec-Fetch-Site": "none"}, 415),  # the user's own doing, an extension among them
        ({"Origin": SITE}, 403),
        ({"Origin": "null"}, 403),  # a file, a frame in a sandbox, after a redirect
        ({"Origin": ""}, 403),
        ({"Origin": "http://localhost:3000"}, 403),  # another server on this machine
        ({"Origin": "https://localhost.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "something new"}, 403),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
@pytest.mark.parametrize("path", [VERDICT, f"{MODEL}/infer"])
def test_only_this_servers_own_page_may_post(server: Process, path: str, headers: dict[str, str], status: int) -> None:
    response = server.ask("POST", path, b"no image", {"Host": "localhost", **headers})
    assert response.status == (400 if status == 415 and path != VERDICT else status)
    assert ("--allow-origin" in response.body.decode()) == (status == 403)


def test_without_the_option_no_page_may_read(server: Process) -> None:
    for method, path in (("GET", "/v2"), ("OPTIONS", VERDICT), ("POST", VERDICT)):
        headers = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
        response = server.ask(method, path, None, headers)
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert (method, response.status) in (("GET", 200), ("OPTIONS", 405), ("POST", 403))


def test_a_page_that_is_let_in_can_ask_before_it_sends(lenient: Process) -> None:
    for origin in (SITE, "http://localhost:3000"):
        for path in (VERDICT, f"{MODEL}/infer", "/v2"):
            response = asked(
                lenient,
                "OPTIONS",
                path,
                Origin=origin,
                Access_Control_Request_Method="POST",
                Access_Control_Request_Headers="authorization",
                Access_Control_Request_Private_Network="true",
            )
            assert (response.status, response.body) == (204, b"")
            assert response.headers["access-control-allow-origin"] == origin
            assert "POST" in response.headers["access-control-allow-methods"]
            assert "authorization" in response.headers["access-control-allow-headers"].lower()
            assert response.headers["access-control-allow-private-network"] == "true"
            assert "access-control-allow-credentials" not in response.headers
            assert response.headers["vary"] == "Origin"


def test_a_page_that_is_let_in_reads_verdicts_and_refusals(lenient: Process, picture: bytes) -> None:
    for body, status in ((picture, 200), (b"no image", 415)):
        response = lenient.post(body, "?crops=1", {"Origin": SITE, "Sec-Fetch-Site": "cross-site"})
        assert (response.status, response.headers["access-control-allow-origin"]) == (status, SITE)
        assert "X-Request-ID" in response.headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", ["http://app.example", "https://app.example:444", "https://evil.example", "null"])
def test_other_pages_stay_out(lenient: Process, origin: str) -> None:
    preflight = asked(lenient, "OPTIONS", VERDICT, Origin=origin, Access_Control_Request_Method="POST")
    posted = asked(lenient, "POST", VERDICT, Origin=origin)
    assert (preflight.status, posted.status) == (405, 403)
    for response in (preflight, posted, asked(lenient, "GET", "/v2", Origin=origin)):
        assert "access-control-allow-origin" not in response.headers
        assert response.headers["vary"] == "Origin", "caches keep the responses apart"


def test_a_proxys_name_is_let_in(lenient: Process) -> None:
    assert asked(lenient, "GET", "/v2", Host="proxy.example").status == 200
    assert asked(lenient, "GET", "/v2", Host="localhost:1").status == 200
    assert asked(lenient, "GET", "/v2", Host="another.example").status == 403
    posted = asked(lenient, "POST", VERDICT, Host="proxy.example", Origin="https://proxy.example")
    assert posted.status == 415, "its own page, whose TLS the proxy has ended"


@pytest.mark.parametrize("path", PAGES)
def test_no_response_is_sniffed(server: Process, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        response = asked(server, method, path)
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\0\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000])
def test_nor_is_the_answer_to_what_is_no_request(server: Process, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(garbage)
        assert b"x-content-type-options: nosniff" in connection.recv(1000).lower()


@pytest.mark.parametrize(
    ("arguments", "hosts"),
    [
        (("127.0.0.1", "127.0.0.1"), {*LOCAL}),
        (("localhost", "127.0.0.1"), {*LOCAL}),
        (("::1", "::1"), {*LOCAL}),
        (("Desk", "127.0.1.1"), {*LOCAL, "desk", "127.0.1.1"}),
        (("127.0.0.1", "127.0.0.1", ("Proxy.example.",)), {*LOCAL, "proxy.example"}),
        (("0.0.0.0", "0.0.0.0"), None),
        (("::", "::"), None),
        (("fe80::1%eth0", "fe80::1%eth0"), None),
        (("0.0.0.0", "0.0.0.0", ("a.example", "fd00::1")), {*LOCAL, "0.0.0.0", "a.example", "[fd00::1]"}),
    ],
)
def test_names_are_checked_on_loopback_and_where_they_are_listed(arguments: Any, hosts: set[str] | None) -> None:
    assert policy_for(*arguments) == OriginPolicy(None if hosts is None else frozenset(hosts))


def test_the_address_of_the_connection_is_a_name_too(bundles: Bundles, tmp_path: Any) -> None:
    """A probe by IP address, as Kubernetes sends them, where names are listed."""
    with serve_process(
        bundles("mobilenet_v3_small").folder, tmp_path, "--host", "0.0.0.0", "--allow-host", "a.example"
    ) as server:
        with socket.create_connection(("127.0.0.2", server.port), timeout=30) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.2\r\nConnection: close\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert asked(server, "GET", "/readyz", Host="b.example").status == 403
        assert asked(server, "GET", "/readyz", Host="a.example").status == 200


@pytest.mark.parametrize("name", ["", "http://a.example", "a.example:80", "a b", "a/b", "*"])
def test_what_is_no_name_is_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match="--allow-host"):
        checked_host(name)


@pytest.mark.parametrize(
    "origin", ["", "*", "null", "app.example", "https://", "https://a.example/path", "https://a b"]
)
def test_what_is_no_origin_is_wrong_usage(origin: str) -> None:
    with pytest.raises(UsageError, match="--allow-origin"):
        checked_origin(origin)


@pytest.mark.parametrize(
    ("given", "origin"),
    [("HTTPS://App.example", SITE), (f"{SITE}:443/", SITE), ("http://a.example:8080", "http://a.example:8080")],
)
def test_origins_are_taken_as_browsers_write_them(given: str, origin: str) -> None:
    assert checked_origin(given) == origin


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("a.example:80", "a.example"),
        ("[::1]:80", "[::1]"),
        ("a.example:", "a.example"),
        ("a,b", None),
        ("user@localhost", None),
        ("localhost/", None),
        ("localhost:80:80", None),
        ("::1", None),
        ("localhost\xe9", None),
    ],
)
def test_host_headers_are_parsed_strictly(value: str, name: str | None) -> None:
    assert host_name(value) == name
