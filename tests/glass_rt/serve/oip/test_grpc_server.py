"""API keys, a full queue and the end of the process, over gRPC and the protocol's HTTP."""

from __future__ import annotations

import http.client
import json
import signal
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glass_rt.serve.http.status import STATUSES
from tests.serving import Process, serve_process, wait_until
from tests.support import Bundles, Cli

pytestmark = pytest.mark.slow

grpc = pytest.importorskip("grpc")
pb = pytest.importorskip("tritonclient.grpc.service_pb2")

KEY = "correct-horse-battery"
SERVICE = "/inference.GRPCInferenceService"
WITH_KEY = (("authorization", f"Bearer {KEY}"),)
BUSY_CROPS, BUSY_IMAGES = 32, 4  # what keeps a server busy for a while


@pytest.fixture(scope="module")
def keyed(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server with API keys and a queue of four images; the last test ends it."""
    folder = tmp_path_factory.mktemp("keyed")
    keys = folder / "keys"
    keys.write_text(f"# for tests\n{KEY}\n")
    options = (
        "--grpc-port",
        "0",
        "--api-key-file",
        str(keys),
        "--queue-images",
        str(BUSY_IMAGES),
        "--body-timeout",
        "2",
    )
    with serve_process(bundles("resnet18").folder, folder, *options) as started:
        yield started


@pytest.fixture
def channel(keyed: Process) -> Iterator[Any]:
    opened = grpc.insecure_channel(keyed.grpc)
    yield opened
    opened.close()


def request(image: bytes, count: int = 1, crops: int | None = None) -> bytes:
    raw = (struct.pack("<I", len(image)) + image) * count
    message = pb.ModelInferRequest(model_name="resnet18", raw_input_contents=[raw])
    message.inputs.add(name="image", datatype="BYTES", shape=[count, 1])
    if crops is not None:
        message.parameters["crops"].int64_param = crops
    encoded: bytes = message.SerializeToString()
    return encoded


def infer(channel: Any) -> Any:
    return channel.unary_unary(f"{SERVICE}/ModelInfer", response_deserializer=pb.ModelInferResponse.FromString)


@pytest.mark.parametrize(
    "metadata",
    [(), (("authorization", "Bearer wrong-wrong-wrong-wrong"),), (("authorization", KEY),), (("x-api-key", ""),)],
)
def test_without_a_known_key_only_the_probes_answer(channel: Any, metadata: tuple[tuple[str, str], ...]) -> None:
    for method in ("ModelInfer", "ModelMetadata", "ServerMetadata", "ModelReady"):
        with pytest.raises(grpc.RpcError) as refusal:
            channel.unary_unary(f"{SERVICE}/{method}")(b"", metadata=metadata, timeout=60)
        assert refusal.value.code() == grpc.StatusCode.UNAUTHENTICATED
    for method in ("ServerLive", "ServerReady"):
        assert channel.unary_unary(f"{SERVICE}/{method}")(b"", metadata=metadata, timeout=60) == b"\x08\x01"


@pytest.mark.parametrize("metadata", [WITH_KEY, (("x-api-key", KEY),)])
def test_a_key_in_the_metadata_opens_the_server(channel: Any, metadata: Any, pictures: tuple[Path, ...]) -> None:
    response, call = infer(channel).with_call(
        request(pictures[5].read_bytes()), metadata=(*metadata, ("x-request-id", "mine-1")), timeout=60
    )
    assert len(response.outputs) == 6
    assert dict(call.trailing_metadata())["x-request-id"] == "mine-1"


def test_an_unknown_caller_can_hold_no_memory(channel: Any, keyed: Process) -> None:
    """Its messages are refused before they are received."""
    before = keyed.peak_bytes()
    calls = [channel.unary_unary(f"{SERVICE}/ModelInfer").future(bytes(60 << 20), timeout=60) for _ in range(8)]
    assert {call.exception().code() for call in calls} == {grpc.StatusCode.UNAUTHENTICATED}
    assert keyed.peak_bytes() - before < 8 * (30 << 20)


def test_a_grpc_port_in_use_is_named(keyed: Process, bundles: Bundles, cli: Cli) -> None:
    engine = bundles("resnet18").folder
    done = cli("serve", "--engine", engine, "--port", 0, "--grpc-port", keyed.grpc_port)
    assert done.returncode == 1
    assert f"cannot listen on {keyed.grpc} for gRPC" in done.stderr


def test_over_http_the_same_paths_are_open(keyed: Process) -> None:
    expected = {
        "/v2/health/live": 200,
        "/v2/health/ready": 200,
        "/": 200,
        "/openapi.json": 200,
        "/v2": 401,
        "/v2/models/resnet18": 401,
        "/v2/models/resnet18/ready": 401,
    }
    found = {}
    connection = http.client.HTTPConnection(keyed.http, timeout=60)
    for path in expected:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        found[path] = response.status
    assert found == expected
    connection.request("GET", "/v2", headers={"X-API-Key": KEY})
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["name"]) == (200, "glass-rt")
    connection.close()


def occupy(server: Process, channel: Any, image: bytes) -> Any:
    """A call that fills the server's queue, and that the engine has received."""
    call = infer(channel).future(request(image, BUSY_IMAGES, BUSY_CROPS), metadata=WITH_KEY)
    full = f"glass_rt_queue_images {BUSY_IMAGES}.0\n".encode()
    wait_until(lambda: full in server.get("/metrics", {"X-API-Key": KEY}).body)
    return call


def test_a_full_queue_is_resource_exhausted_and_says_when_to_come_again(
    keyed: Process, channel: Any, pictures: tuple[Path, ...]
) -> None:
    image = pictures[4].read_bytes()
    call = occupy(keyed, channel, image)
    with pytest.raises(grpc.RpcError) as caught:
        infer(channel)(request(image, 1, 1), metadata=WITH_KEY, timeout=60)
    refusal = caught.value
    assert refusal.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(refusal.trailing_metadata())["retry-after"]) >= 1
    assert len(call.result().outputs) == 6


def test_a_message_that_never_comes_is_given_up(keyed: Process, channel: Any) -> None:
    gone = threading.Event()

    def never() -> Iterator[bytes]:
        gone.wait(60)
        yield from ()

    try:
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(f"{SERVICE}/ModelInfer")(never(), metadata=WITH_KEY, timeout=60)
    finally:
        gone.set()
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.details() == "the message did not arrive within 2 s"
    assert b"glass_rt_requests_open 0.0\n" in keyed.get("/metrics", {"X-API-Key": KEY}).body


def test_sigterm_lets_grpc_calls_under_way_finish_and_refuses_new_ones(
    keyed: Process, channel: Any, pictures: tuple[Path, ...]
) -> None:
    call = occupy(keyed, channel, pictures[4].read_bytes())
    keyed.signal(signal.SIGTERM)
    codes = []
    while not call.done():
        with pytest.raises(grpc.RpcError) as refusal:
            infer(channel)(b"", metadata=WITH_KEY, timeout=60)
        codes.append((refusal.value.code(), refusal.value.details()))
        time.sleep(0.02)
    assert len(call.result().outputs) == 6
    assert any(code == grpc.StatusCode.UNAVAILABLE and "stopping" in words for code, words in codes), codes
    assert keyed.process.wait(60) == 0
    answered = [line for line in keyed.log() if line.get("path") == "ModelInfer" and line["status"] == 200]
    assert answered
    assert all(line["request_id"] for line in answered)


def test_every_error_of_the_table_has_its_grpc_code() -> None:
    from glass_rt.serve.oip.grpc_server import CODES

    assert {int(status) for status in STATUSES.values()} - {500} <= set(CODES)
