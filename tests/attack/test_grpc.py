"""gRPC calls from a seed: broken messages, idle streams, cancelled and late calls; a good client is answered all along."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.attack.serving import SEED, TRIALS, bystander, check_unharmed, good_picture
from tests.serving import Process, serve_process
from tests.support import Bundles

grpc = pytest.importorskip("grpc")
pb = pytest.importorskip("tritonclient.grpc.service_pb2")

pytestmark = pytest.mark.attack

MEBIBYTE = 1 << 20
SERVICE = "/inference.GRPCInferenceService"
METHODS = (
    "ModelInfer",
    "ModelInfer",
    "ModelInfer",
    "ModelReady",
    "ModelMetadata",
    "ServerMetadata",
    "ServerReady",
    "No",
)
HARMLESS = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "UNIMPLEMENTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
}


@pytest.fixture(scope="module")
def target(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("grpc_attack")
    options = ("--grpc-port", "0", "--max-body", "256K", "--queue-bytes", "2M", "--body-timeout", "5")
    with serve_process(bundles("mobilenet_v3_small").folder, folder, *options) as started:
        yield started
        assert started.stop() == 0


def connect(server: Process) -> Any:
    """A connection of its own: channels of one process share theirs otherwise."""
    return grpc.insecure_channel(server.grpc, options=[("grpc.use_local_subchannel_pool", 1)])


def infer_message(image: bytes, crops: int = 1) -> bytes:
    message = pb.ModelInferRequest(model_name="mobilenet_v3_small")
    message.raw_input_contents.append(struct.pack("<I", len(image)) + image)
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    message.parameters["crops"].int64_param = crops
    encoded: bytes = message.SerializeToString()
    return encoded


def mangled(chance: random.Random, data: bytes) -> bytes:
    mutable = bytearray(data)
    for _ in range(chance.randrange(4) if data else 0):
        mutable[chance.randrange(len(mutable))] = chance.randrange(256)
    return bytes(mutable[: chance.randrange(len(mutable) + 1)] if chance.random() < 0.2 else mutable)


def code_of(call: Any) -> str:
    try:
        call()
    except (grpc.RpcError, grpc.FutureCancelledError) as error:
        return error.code().name if isinstance(error, grpc.RpcError) else "CANCELLED"
    return "OK"


def test_no_call_does_harm(target: Process) -> None:
    chance, peak, codes = random.Random(SEED), target.peak_bytes(), set[str]()
    good = infer_message(good_picture())
    messages = (good, infer_message(b"no image"), infer_message(good_picture(), 999), b"", bytes(200_000))
    with connect(target) as bad, connect(target) as fine:
        infer = fine.unary_unary(f"{SERVICE}/ModelInfer")
        with bystander(lambda: code_of(lambda: infer(good, timeout=60)), "OK") as client:
            for _ in range(TRIALS):
                method = bad.unary_unary(f"{SERVICE}/{chance.choice(METHODS)}")
                message = mangled(chance, chance.choice(messages))
                call = method.future(message, timeout=chance.choice((0.001, 0.01, 10, 10)))
                if chance.random() < 0.2:
                    call.cancel()
                codes.add(code_of(call.result))
        assert not client.refused
        assert client.answered
    assert codes <= HARMLESS
    assert {"OK", "INVALID_ARGUMENT"} <= codes
    check_unharmed(target, peak, 100 * MEBIBYTE)


@pytest.mark.parametrize("connections", [1, 8])
def test_streams_that_send_nothing_cost_nobody_else_anything(target: Process, connections: int) -> None:
    """As many as there are turns and more, on one connection or several, renewed as they end."""
    gone, good, peak = threading.Event(), infer_message(good_picture()), target.peak_bytes()

    def never() -> Iterator[bytes]:
        gone.wait(60)
        yield from ()

    channels = [connect(target) for _ in range(connections)]
    streams = [channel.stream_unary(f"{SERVICE}/ModelInfer") for channel in channels]
    try:
        calls = [streams[number % connections].future(never(), timeout=30) for number in range(32)]
        with connect(target) as fine:
            infer = fine.unary_unary(f"{SERVICE}/ModelInfer")
            with bystander(lambda: code_of(lambda: infer(good, timeout=60)), "OK") as client:
                for _ in range(max(3, TRIALS // 30)):
                    for number, call in enumerate(calls):
                        if call.done():
                            calls[number] = streams[number % connections].future(never(), timeout=30)
                    gone.wait(0.3)
            assert client.answered
            assert not client.refused
        for call in calls:
            call.cancel()
    finally:
        gone.set()
        for channel in channels:
            channel.close()
    check_unharmed(target, peak, 100 * MEBIBYTE)
