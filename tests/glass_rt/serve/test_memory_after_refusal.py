"""What is left of refused bodies in a server that never looks for reference cycles: nothing."""

from __future__ import annotations

import base64
import json
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.serving import VERDICT, Process, form, serve_process, wait_until
from tests.support import Bundles

SIZE = 7 << 20  # of a body
BODIES = 8
LEFT = BODIES * SIZE // 2
ROUNDS = 4
NO_COLLECTION = "import gc; gc.disable(); from glass_rt.cli import main; main()"
INFER = "/v2/models/mobilenet_v3_small/infer"
PADDING = bytes(SIZE)

Send = Callable[[Process], int]


@pytest.fixture(scope="module")
def uncollected(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server whose garbage collector is off: what a cycle holds stays."""
    folder = tmp_path_factory.mktemp("uncollected")
    options = ("--max-body", "8M", "--queue-images", "8", "--queue-bytes", "64M", "--body-timeout", "0.5")
    program = ("-c", NO_COLLECTION)
    with serve_process(
        bundles("mobilenet_v3_small").folder, folder, "--grpc-port", "0", *options, program=program
    ) as started:
        yield started


def posted(body: bytes, query: str = "", headers: dict[str, str] | None = None, path: str = VERDICT) -> Send:
    return lambda server: server.ask("POST", path + query, body, headers or {}).status


def form_posted(*files: tuple[str, bytes], cut: int | None = None) -> Send:
    body, headers = form(*files)
    return posted(body[:cut], headers=headers)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def padded_png(width: int, height: int) -> bytes:
    """Its chunks are in order; its pixels are none."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", PADDING) + chunk(b"IEND", b"")


def infer_json(image: bytes, **more: Any) -> bytes:
    data = base64.b64encode(image[: SIZE * 3 // 4]).decode()
    return json.dumps(
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [data]}], **more}
    ).encode()


def in_chunks(server: Process) -> int:
    return server.post(iter([PADDING, PADDING])).status


def too_slow(server: Process) -> int:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"POST {VERDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE + 1}\r\n\r\n"
        connection.sendall(head.encode() + PADDING)
        return int(connection.recv(1000).split()[1])


def gone(server: Process) -> int:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"POST {VERDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE + 1}\r\n\r\n"
        connection.sendall(head.encode() + PADDING)
    return 499


def over_grpc(image: bytes, **parameters: int) -> Send:
    message = pb.ModelInferRequest(
        model_name="mobilenet_v3_small", raw_input_contents=[struct.pack("<I", len(image)) + image]
    )
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    for name, value in parameters.items():
        message.parameters[name].int64_param = value
    encoded = message.SerializeToString()

    def send(server: Process) -> int:
        with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as refusal:
            channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(encoded, timeout=60)
        return int(refusal.value.code().value[0])

    return send


REFUSALS: list[tuple[str, Send, int]] = [
    ("no image", posted(b"no image" + PADDING), 415),
    ("a damaged image", posted(padded_png(64, 64)), 422),
    ("too many pixels", posted(padded_png(60_000, 60_000)), 413),
    ("more crops than allowed", posted(PADDING, "?crops=9999"), 400),
    ("an unknown path", posted(PADDING, path="/v1/nothing"), 404),
    ("a form that is cut short", form_posted(("a.jpg", PADDING), cut=-10), 400),
    ("a form of no images", form_posted(("a.jpg", b"x"), ("b.jpg", PADDING)), 200),  # with two failures in it
    ("a form of too many", form_posted(*[("a.jpg", b"x")] * 8, ("b.jpg", PADDING)), 413),
    ("a body in chunks that is too large", in_chunks, 413),
    ("a body that does not arrive", too_slow, 408),
    ("a client that goes in the middle", gone, 499),
    ("JSON that is none", posted(b'{"inputs": [' + b" " * SIZE, path=INFER), 400),
    ("JSON with no image", posted(infer_json(PADDING), path=INFER), 415),
    ("JSON with an unknown parameter", posted(infer_json(PADDING, parameters={"crop": 1}), path=INFER), 400),
    ("a message with no image", over_grpc(b"no image" + PADDING), 3),
    ("a message that asks for too much", over_grpc(b"no image" + PADDING, crops=200), 3),
]  # fmt: skip


def resident(server: Process) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096


def growth(server: Process, send: Send, status: int) -> int:
    """Bytes that are still there after as many refusals as BODIES."""
    before = resident(server)
    with ThreadPoolExecutor(4) as clients:
        assert set(clients.map(send, [server] * BODIES)) == {status}
    wait_until(lambda: server.figure("glass_rt_requests_open") == 0)
    assert server.figure("glass_rt_queue_bytes") == 0
    return resident(server) - before


@pytest.mark.parametrize(("send", "status"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_nothing_is_left_of_refused_bodies(uncollected: Process, send: Send, status: int) -> None:
    """What a cycle holds is left of every round; what the allocator keeps for the next is not."""
    grown: list[int] = []
    while len(grown) < ROUNDS and (not grown or grown[-1] > LEFT):
        grown.append(growth(uncollected, send, status))
    assert grown[-1] < LEFT, f"{BODIES} bodies of {SIZE >> 20} MiB left {[size >> 20 for size in grown]} MiB"
