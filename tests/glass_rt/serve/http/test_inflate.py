"""Compressed bodies: inflated within limits, or refused by name."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator

import pytest

from glass_rt import Detector
from glass_rt.serve.http.inflate import Inflater, coding_of
from glass_rt.serve.refusals import UnsupportedEncoding
from tests.glass_rt.serve.conftest import MAX_BODY
from tests.serving import Process, form, same_verdict

Compress = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def in_members(data: bytes) -> bytes:
    return gzip.compress(data[:100], mtime=0) + gzip.compress(b"") + gzip.compress(data[100:])


CODINGS: list[tuple[str, Compress]] = [
    ("gzip", gzip.compress),
    ("GZip", gzip.compress),
    ("x-gzip", gzip.compress),
    (" gzip , identity", gzip.compress),
    ("gzip", in_members),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_compressed_images_get_their_verdict(
    server: Process, judge: Detector, picture: bytes, coding: str, compress: Compress
) -> None:
    packed, headers = compress(picture), {"Content-Encoding": coding}
    expected = judge.detect(picture)
    assert same_verdict(server.post(packed, "", headers).json, expected)
    chunks = iter([packed[:1], packed[1:50], packed[50:]])
    assert same_verdict(server.post(chunks, "", headers).json, expected), "in chunks too"
    body, form_headers = form(("a.jpg", picture), ("b.jpg", b"no image"))
    results = server.post(compress(body), "", {**form_headers, **headers}).json
    assert same_verdict(results[0], {**expected.to_json(), "path": "a.jpg"})
    assert results[1]["error"]["kind"] == "format"


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_compressed_requests_of_the_protocol_are_read(server: Process, coding: str, compress: Compress) -> None:
    body = compress(json.dumps({"inputs": []}).encode())
    response = server.ask("POST", "/v2/models/mobilenet_v3_small/infer", body, {"Content-Encoding": coding})
    assert response.status == 400
    assert "expected one input" in response.json["error"]


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("br", b"x"),
        ("zstd", b"x"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0)),
        ("gzip", b""),
        ("gzip", b"no stream"),
        ("gzip", gzip.compress(b"x" * 1000, mtime=0)[:-1]),
        ("gzip", gzip.compress(b"x" * 1000, mtime=0) + b"more"),
        ("gzip", zlib.compress(b"x")),
        ("deflate", b""),
        ("deflate", b"x"),
        ("deflate", gzip.compress(b"x", mtime=0)),
        ("deflate", zlib.compress(b"x" * 1000)[:-1]),
        ("deflate", zlib.compress(b"x") + b"more"),
    ],
)
def test_what_cannot_be_inflated_is_refused_by_name(server: Process, coding: str, body: bytes) -> None:
    response = server.post(body, "", {"Content-Encoding": coding})
    assert (response.status, response.json["error"]["kind"]) == (415, "content_encoding")


def bomb(megabytes: int) -> Iterator[bytes]:
    stream = zlib.compressobj(9, wbits=31)
    for _ in range(megabytes):
        if piece := stream.compress(bytes(1 << 20)):
            yield piece
    yield stream.flush()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_bomb_is_refused_within_the_limit(server: Process, chunked: bool) -> None:
    before = server.peak_bytes()
    pieces = list(bomb(256))
    body = iter(pieces) if chunked else b"".join(pieces)
    response = server.post(body, "", {"Content-Encoding": "gzip"})
    assert (response.status, response.json["error"]["kind"]) == (413, "body_too_large")
    assert server.peak_bytes() - before < 4 * MAX_BODY
    assert server.figure("glass_rt_queue_bytes") == 0


def test_the_limit_is_that_of_the_inflated_body(server: Process) -> None:
    assert server.post(gzip.compress(bytes(MAX_BODY), mtime=0), "", {"Content-Encoding": "gzip"}).status == 415, (
        "no image"
    )
    assert server.post(gzip.compress(bytes(MAX_BODY + 1), mtime=0), "", {"Content-Encoding": "gzip"}).status == 413


def test_pieces_are_inflated_as_they_come() -> None:
    data = bytes(range(256)) * 20_000
    for coding, compress in CODINGS:
        inflater, inflated, packed = Inflater(coding.strip().split(" ")[0].lower()), b"", compress(data)
        for start in range(0, len(packed), 7):
            inflater.feed(packed[start : start + 7])
            while not inflater.hungry:
                inflated += inflater.take()
        inflater.finish()
        assert inflated == data


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ((), None),
        ((b"",), None),
        ((b"identity",), None),
        ((b"gzip",), "gzip"),
        ((b"identity", b" Deflate "), "deflate"),
    ],
)
def test_the_coding_is_read_from_all_headers(values: tuple[bytes, ...], coding: str | None) -> None:
    assert coding_of([(b"content-encoding", value) for value in values]) == coding


def test_two_codings_in_two_headers_are_two() -> None:
    with pytest.raises(UnsupportedEncoding, match="gzip, deflate"):
        coding_of([(b"content-encoding", b"gzip"), (b"content-encoding", b"deflate")])
