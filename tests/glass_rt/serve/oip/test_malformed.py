"""Malformed, cut short and oversized messages against a running server: it names the fault, and goes on."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from glass_rt import Detector
from tests.glass_rt.serve.oip.test_rest_message import MALFORMED
from tests.serving import Process, wait_until

grpc = pytest.importorskip("grpc")
pb = pytest.importorskip("tritonclient.grpc.service_pb2")

SERVICE = "/inference.GRPCInferenceService"
INFER = "/v2/models/mobilenet_v3_small/infer"


@pytest.fixture
def connection(whole_server: Process) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection(whole_server.http, timeout=60)
    yield opened
    opened.close()


@pytest.fixture
def channel(whole_server: Process) -> Iterator[Any]:
    opened = grpc.insecure_channel(whole_server.grpc, options=[("grpc.max_send_message_length", -1)])
    yield opened
    opened.close()


def refused(channel: Any, method: str, message: bytes, **options: Any) -> Any:
    """The error of a call."""
    with pytest.raises(grpc.RpcError) as refusal:
        channel.unary_unary(f"{SERVICE}/{method}")(message, timeout=60, **options)
    return refusal.value


def test_malformed_http_requests_get_400_and_the_connection_goes_on(connection: http.client.HTTPConnection) -> None:
    for name, body, json_bytes in MALFORMED:
        headers = {} if json_bytes is None else {"Inference-Header-Content-Length": json_bytes.encode()}
        connection.request("POST", INFER, body, headers)
        response = connection.getresponse()
        said = json.loads(response.read())
        assert response.status == 400, (name, said)
        assert list(said) == ["error"], name
    connection.request("GET", "/v2/health/ready")
    assert connection.getresponse().status == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", INFER, {"Content-Encoding": "gzip"}, 415),
        ("POST", INFER, {"Content-Length": str(1 << 40)}, 413),
        ("GET", INFER, {}, 405),
        ("POST", "/v2/models/mobilenet_v3_small", {}, 405),
        ("GET", "/v2/nothing", {}, 404),
        ("GET", "/v2/models/%2e%2e%2f", {}, 404),
        ("GET", "/v2/models/%ff", {}, 404),
        ("GET", "/v2/models/a%0d%0aX-Injected:%201", {}, 404),
    ],
)
def test_other_refusals_are_the_protocols_errors(
    connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    assert response.status == status
    assert response.getheader("X-Injected") is None
    said = json.loads(response.read())
    assert list(said) == ["error"]
    assert isinstance(said["error"], str)


def test_malformed_grpc_messages_are_invalid_arguments(channel: Any) -> None:
    whole = pb.ModelInferRequest(model_name="mobilenet_v3_small", raw_input_contents=[struct.pack("<I", 1) + b"x"])
    whole.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    encoded = whole.SerializeToString()
    long_name = pb.ModelInferRequest.FromString(encoded)
    long_name.parameters["x" * 100_000].bool_param = True
    messages = [
        long_name.SerializeToString(),
        b"\xff" * 100,
        encoded[:-1],
        encoded + b"\x0a",
        b"\x0a\x02\xff\xfe",  # a name that is not UTF-8
        b"\x2a\x00" * (1 << 20),  # a million inputs
        bytes(1 << 20),
        os.urandom(1 << 16),
    ]
    for message in messages:
        assert refused(channel, "ModelInfer", message).code() == grpc.StatusCode.INVALID_ARGUMENT
    for method in (
        "ServerMetadata",
        "ModelMetadata",
        "ModelReady",
        "ModelConfig",
        "ModelStatistics",
        "RepositoryIndex",
    ):
        assert refused(channel, method, b"\xff" * 10).code() == grpc.StatusCode.INVALID_ARGUMENT
        assert refused(channel, method, bytes(1 << 20)).code() == grpc.StatusCode.INVALID_ARGUMENT
    for message in (b"", b"\xff" * 10, bytes(1 << 20)):  # probes do not look at theirs
        assert channel.unary_unary(f"{SERVICE}/ServerReady")(message, timeout=60) == b"\x08\x01"


def test_larger_grpc_messages_than_a_body_may_be_are_refused_also_compressed(channel: Any) -> None:
    larger = bytes((64 << 20) + 1)
    assert refused(channel, "ModelInfer", larger).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    packed = refused(channel, "ModelInfer", larger, compression=grpc.Compression.Gzip)
    assert packed.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_methods_that_are_not_there_are_unimplemented(channel: Any) -> None:
    for method in ("ModelStreamInfer", "RepositoryModelUnload", "SystemSharedMemoryRegister", "Nothing"):
        assert refused(channel, method, b"").code() == grpc.StatusCode.UNIMPLEMENTED


def test_calls_without_a_message_or_given_up_leave_the_server_well(
    channel: Any, whole_server: Process, pictures: tuple[Path, ...], judge: Detector
) -> None:
    as_stream = channel.stream_unary(f"{SERVICE}/ModelInfer")
    with pytest.raises(grpc.RpcError) as refusal:
        as_stream(iter(()), timeout=60)
    assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    image = pictures[3].read_bytes()
    message = pb.ModelInferRequest(
        model_name="mobilenet_v3_small", raw_input_contents=[struct.pack("<I", len(image)) + image]
    )
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    call = channel.unary_unary(f"{SERVICE}/ModelInfer", response_deserializer=pb.ModelInferResponse.FromString)
    for _ in range(20):
        call.future(message.SerializeToString()).cancel()
    wait_until(lambda: not whole_server.figure("glass_rt_requests_open"))
    assert whole_server.figure("glass_rt_queue_images") == whole_server.figure("glass_rt_queue_bytes") == 0
    response = call(message.SerializeToString(), timeout=60)
    position = [output.name for output in response.outputs].index("probability_fake")
    expected = judge.detect(image).probability_fake
    assert response.raw_output_contents[position] == struct.pack("<f", expected)


def test_calls_that_bring_no_message_hold_up_neither_probes_nor_questions(channel: Any, whole_server: Process) -> None:
    gone = threading.Event()

    def never() -> Iterator[bytes]:
        gone.wait(60)
        yield from ()

    def ask(method: str) -> Any:
        return channel.unary_unary(f"{SERVICE}/{method}")(b"", timeout=20)

    as_stream = channel.stream_unary(f"{SERVICE}/ModelInfer")
    try:
        idle = [as_stream.future(never()) for _ in range(8)]  # as many as are received at once
        wait_until(lambda: whole_server.figure("glass_rt_requests_open") == 8)
        assert ask("ServerMetadata")
        for _ in range(10):
            assert refused(channel, "ModelInfer", b"").code() == grpc.StatusCode.NOT_FOUND, "it was received"
        (ended,) = [call for call in idle if call.done()]
        assert ended.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(ended.trailing_metadata())["retry-after"] == "1"
        idle += [as_stream.future(never()) for _ in range(200)]
        assert ask("ServerReady") == b"\x08\x01"
        for call in idle:
            call.cancel()
    finally:
        gone.set()
    wait_until(lambda: whole_server.figure("glass_rt_requests_open") == 0)


def test_calls_that_are_cancelled_leave_no_traceback(channel: Any, whole_server: Process) -> None:
    image = b"no image"
    message = pb.ModelInferRequest(model_name="mobilenet_v3_small")
    message.raw_input_contents.append(struct.pack("<I", len(image)) + image)
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    encoded = message.SerializeToString()
    call = channel.unary_unary(f"{SERVICE}/ModelInfer")
    for number in range(200):
        future = call.future((encoded, b"")[number % 2])
        time.sleep(number % 7 * 0.0004)
        future.cancel()
    for _ in range(50):
        with suppress(grpc.RpcError):
            call(encoded, timeout=0.002)
    wait_until(lambda: not whole_server.figure("glass_rt_requests_open"))
    assert not [line for line in whole_server.log() if "traceback" in line]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01" + bytes(500),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500,
        bytes(range(256)) * 40,
    ],
)
def test_what_is_not_http_2_leaves_the_grpc_port_well(whole_server: Process, channel: Any, garbage: bytes) -> None:
    host, port = whole_server.grpc.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection, suppress(ConnectionError):
        connection.sendall(garbage)
        while connection.recv(1 << 16):
            pass
    assert channel.unary_unary(f"{SERVICE}/ServerReady")(b"", timeout=60) == b"\x08\x01"
