"""Which failures count against the engine: those of its own run, and no image's."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from glass_rt.errors import BackendError
from glass_rt.image.encoded import EncodedImage, read_image
from glass_rt.inference.prepared_image import prepare_image, verdict_of
from glass_rt.serve.service import FAILURES_IN_A_ROW
from tests.serving import Plant, Process, form, serving
from tests.support import Bundles

GOOD_CLIENTS = 200
INFER = "/v2/models/mobilenet_v3_small/infer"

# Stands at the end of an image whose decoding raises an error that no parser of ours raises on purpose.
BROKEN = b"broken"
ERRORS = [
    IndexError("list index out of range"),
    SyntaxError("invalid or missing encoding declaration"),
    OverflowError("cannot fit 'int' into an index-sized integer"),
    RuntimeError(),
    RecursionError("maximum recursion depth exceeded"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    KeyError("ispe"),
    struct.error("unpack requires a buffer of 4 bytes"),
    cv2.error("OpenCV(5.0.0) error: (-215:Assertion failed)"),
]
PLACES: dict[str, Callable[..., Any]] = {
    "read_image": read_image,
    "prepare_image": prepare_image,
    "verdict_of": verdict_of,
}


def small_picture() -> bytes:
    done, encoded = cv2.imencode(".png", np.full((32, 32, 3), 128, np.uint8))
    assert done
    return encoded.tobytes()


PICTURE = small_picture()


def is_broken(argument: Any) -> bool:
    if isinstance(argument, EncodedImage):
        return argument.data.endswith(BROKEN)
    return isinstance(argument, bytes) and argument.endswith(BROKEN)


def break_images(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Lets a step of the pipeline raise each of the errors in turn, for the images that end with BROKEN."""
    raised = iter(ERRORS * 100)

    def step(argument: Any, *others: Any) -> Any:
        if is_broken(argument):
            raise next(raised)
        return PLACES[place](argument, *others)

    monkeypatch.setattr(f"glass_rt.inference.pipeline.{place}", step)


@pytest.mark.parametrize("place", ["read_image", "prepare_image"])
def test_broken_images_cost_good_clients_nothing(plant: Plant, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    broken = PICTURE + BROKEN
    with serving(plant) as here, ThreadPoolExecutor(4) as clients:
        break_images(monkeypatch, place)
        asked = []
        for number in range(GOOD_CLIENTS // 2):
            asked.append((200, clients.submit(here.post, PICTURE, "?crops=1")))
            if number % 3 == 0:
                asked += [(422, clients.submit(here.post, broken, "?crops=1")) for _ in ERRORS[:3]]
        answers = [(expected, future.result()) for expected, future in asked]
        assert [response.status for _, response in answers] == [expected for expected, _ in answers]
        assert {response.json["error"]["kind"] for expected, response in answers if expected == 422} == {"corrupt"}
        assert here.get("/readyz").status == 200


def test_broken_images_in_forms_and_over_the_protocol_are_no_failures_of_the_engine(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = PICTURE + BROKEN
    body, headers = form(("a.png", PICTURE), ("b.png", broken), ("c.png", broken))
    tensor = {"name": "image_uint8", "datatype": "UINT8", "shape": [len(broken)], "data": list(broken)}
    message = json.dumps({"inputs": [tensor]}).encode()
    with serving(plant) as here:
        break_images(monkeypatch, "read_image")
        for _ in range(2 * FAILURES_IN_A_ROW):
            response = here.post(body, "?crops=1", headers)
            assert response.status == 200
            assert [result.get("error", {}).get("kind") for result in response.json] == [None, "corrupt", "corrupt"]
            assert here.ask("POST", INFER, message).status == 422
        assert here.get("/readyz").status == 200


def test_over_grpc_too(bundles: Bundles, whole_server: Process) -> None:
    """Files on which the header's parser or a decoder has failed: see the table of issues in `tests/behaviour`."""
    grpc = pytest.importorskip("grpc")
    from tritonclient.grpc import service_pb2 as pb

    big_tiff = b"II+\0\x08\0\0\0" + struct.pack("<Q", 1 << 63) + bytes(64)  # its directory lies at 2^63
    with grpc.insecure_channel(whole_server.grpc) as channel, ThreadPoolExecutor(4) as clients:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        def code(image: bytes) -> Any:
            message = pb.ModelInferRequest(model_name="mobilenet_v3_small")
            message.raw_input_contents.append(struct.pack("<I", len(image)) + image)
            message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
            message.parameters["crops"].int64_param = 1
            try:
                infer(message.SerializeToString(), timeout=60)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        images = [PICTURE, big_tiff] * (GOOD_CLIENTS // 2)
        codes = list(clients.map(code, images))
    assert set(codes[0::2]) == {grpc.StatusCode.OK}
    assert set(codes[1::2]) == {grpc.StatusCode.INVALID_ARGUMENT}
    assert whole_server.get("/readyz").status == 200


def test_a_run_that_fails_counts_once_whatever_the_number_of_its_images(plant: Plant) -> None:
    body, headers = form(*[("a.png", PICTURE)] * (2 * FAILURES_IN_A_ROW))
    with serving(plant) as here:
        plant.engine.go_on.clear()
        with ThreadPoolExecutor(1) as client:
            held = client.submit(here.post, PICTURE, "?crops=1")
            while plant.engine.rows < 2:  # the canary, and the image that holds up those behind it
                pass
            plant.engine.failures += [BackendError("first"), BackendError("second")]
            with ThreadPoolExecutor(1) as another:
                waiting = another.submit(here.post, body, "?crops=1", headers)
                while here.figure("glass_rt_queue_images") < 1 + 2 * FAILURES_IN_A_ROW:
                    pass
                plant.engine.go_on.set()
                assert held.result().status == 500
                assert waiting.result().status == 500
        assert here.get("/readyz").status == 200, "two runs have failed"


def test_what_the_engines_library_raises_counts(plant: Plant) -> None:
    with serving(plant) as here:
        plant.engine.always = RuntimeError("cublas: not initialised")
        for _ in range(FAILURES_IN_A_ROW):
            assert here.post(PICTURE, "?crops=1").json["error"]["kind"] == "backend"
        assert here.get("/readyz").status == 503
        plant.engine.always = None


@pytest.mark.parametrize("name", ["item_vvc1.heic", "brand.heic", "heic_syntaxerror.heic", "bigtiff_offset.tif"])
def test_files_that_were_blamed_on_the_engine(whole_server: Process, name: str, request: pytest.FixtureRequest) -> None:
    import os

    folder = os.environ.get("GLASS_RT_TEST_FAULTS")
    if not folder:
        pytest.skip("GLASS_RT_TEST_FAULTS names no folder")
    data = Path(folder, name).read_bytes()
    for _ in range(2 * FAILURES_IN_A_ROW):
        assert 400 <= whole_server.post(data).status < 500
    assert whole_server.get("/readyz").status == 200
