"""NVIDIA's own clients, over HTTP and gRPC, against a running `glass-rt serve`."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from glass_rt import DetectOptions, Detector, Verdict
from glass_rt.serve.oip.description import CONFIG_TYPES
from glass_rt.serve.oip.protocol import INPUTS, OUTPUTS, describe
from glass_rt.serve.oip.tensors import MAX_IMAGES
from glass_rt.serve.settings import ServerSettings
from tests.serving import Process

http_module = pytest.importorskip("tritonclient.http")
grpc_module = pytest.importorskip("tritonclient.grpc")
from google.protobuf.json_format import MessageToDict  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402  # after importorskip

MODEL = "mobilenet_v3_small"
OVER_HTTP, OVER_GRPC = "http", "grpc"
MODULES: dict[str, ModuleType] = {OVER_HTTP: http_module, OVER_GRPC: grpc_module}
STATUS = {  # of the same refusal, by protocol
    "bad": {OVER_HTTP: "400", OVER_GRPC: "StatusCode.INVALID_ARGUMENT"},
    "format": {OVER_HTTP: "415", OVER_GRPC: "StatusCode.INVALID_ARGUMENT"},
    "corrupt": {OVER_HTTP: "422", OVER_GRPC: "StatusCode.INVALID_ARGUMENT"},
    "unknown": {OVER_HTTP: "404", OVER_GRPC: "StatusCode.NOT_FOUND"},
    "too_large": {OVER_HTTP: "413", OVER_GRPC: "StatusCode.INVALID_ARGUMENT"},
}


@pytest.fixture(params=[OVER_HTTP, OVER_GRPC])
def over(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def client(over: str, whole_server: Process) -> Iterator[Any]:
    opened = MODULES[over].InferenceServerClient(getattr(whole_server, over))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def encoded(pictures: tuple[Path, ...]) -> list[bytes]:
    return [pictures[number].read_bytes() for number in (2, 4, 5, 6, 1)]


@pytest.fixture(scope="module")
def verdicts(encoded: list[bytes], judge: Detector) -> list[Verdict]:
    return [judge.detect(image) for image in encoded]


def images(over: str, data: Sequence[bytes], shape: Sequence[int] | None = None, name: str = "image") -> Any:
    tensor = MODULES[over].InferInput(name, list(shape or (len(data), 1)), "BYTES")
    tensor.set_data_from_numpy(np.array(data, np.object_).reshape(shape or (-1, 1)))
    return tensor


def uint8(over: str, data: bytes, shape: Sequence[int]) -> Any:
    tensor = MODULES[over].InferInput("image_uint8", list(shape), "UINT8")
    tensor.set_data_from_numpy(np.frombuffer(data, np.uint8).reshape(shape))
    return tensor


def assert_is(result: Any, verdicts: Sequence[Verdict]) -> None:
    """The response is exactly the detector's: the same float32, box by box."""
    fake = np.array([verdict.probability_fake for verdict in verdicts], np.float32)
    assert result.as_numpy("probability_fake").tolist() == fake[:, None].tolist()
    both = np.array([list(verdict.probabilities.values()) for verdict in verdicts], np.float32)
    assert result.as_numpy("probabilities").tolist() == both.tolist()
    labels = [label.decode() if isinstance(label, bytes) else label for label in result.as_numpy("label").ravel()]
    assert labels == [verdict.label for verdict in verdicts]
    crops = max(len(verdict.crops) for verdict in verdicts)
    boxes, attention = result.as_numpy("boxes"), result.as_numpy("attention")
    assert boxes.shape == (len(verdicts), crops, 4)
    assert attention.shape == (len(verdicts), crops)
    for row, verdict in enumerate(verdicts):
        expected = [[crop.left, crop.top, crop.width, crop.height] for crop in verdict.crops]
        assert boxes[row, : len(expected)].tolist() == expected
        assert not boxes[row, len(expected) :].any()
        weights = np.array([crop.attention for crop in verdict.crops], np.float32)
        assert attention[row, : len(expected)].tolist() == weights.tolist()
    for text, verdict in zip(result.as_numpy("verdict").ravel(), verdicts, strict=True):
        said = json.loads(text)
        assert {**said, "timings_ms": None} == {**json.loads(json.dumps(verdict.to_json())), "timings_ms": None}


def test_it_is_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("another")
    assert not client.is_model_ready(MODEL, "2")


def test_it_describes_itself_and_its_model(over: str, client: Any, judge: Detector) -> None:
    server, model = client.get_server_metadata(), client.get_model_metadata(MODEL)
    expected = describe(judge.manifest).to_json()
    if over == OVER_HTTP:
        assert server["extensions"] == ["binary_tensor_data", "model_configuration", "statistics"]
        assert model == expected
        assert client.get_model_metadata(MODEL, "1") == expected
        return
    assert list(server.extensions) == ["binary_tensor_data", "model_configuration", "statistics"]
    assert (model.name, list(model.versions), model.platform) == (MODEL, ["1"], expected["platform"])
    for kind in ("inputs", "outputs"):
        found = [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(model, kind)]
        assert found == expected[kind]


def as_json(over: str, answer: Any) -> Any:
    """A client's answer as JSON; numbers of 64 bits are strings in that of gRPC's messages."""
    if over == OVER_HTTP:
        return answer
    return MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def test_its_configuration_has_the_tensors_without_their_batch(over: str, client: Any, judge: Detector) -> None:
    for version in ("", "1"):
        config = as_json(over, client.get_model_config(MODEL, version))
        config = config.get("config", config)
        assert (config["name"], config["backend"]) == (MODEL, "onnxruntime")
        assert config["max_batch_size"] == min(MAX_IMAGES, ServerSettings().queue_images)
        assert config["parameters"]["bundle_sha256"]["string_value"] == judge.bundle.sha256
        for side, tensors in (("input", INPUTS), ("output", OUTPUTS)):
            found = [(t["name"], t["data_type"], [int(size) for size in t["dims"]]) for t in config[side]]
            assert found == [(t.name, CONFIG_TYPES[t.datatype], list(t.shape[1:])) for t in tensors]


def test_its_statistics_count_what_it_judged(over: str, client: Any, encoded: list[bytes]) -> None:
    def counted() -> dict[str, int]:
        (found,) = as_json(over, client.get_inference_statistics(MODEL))["model_stats"]
        assert as_json(over, client.get_inference_statistics())["model_stats"] == [found]
        assert (found["name"], found["version"]) == (MODEL, "1")
        parts = found.pop("inference_stats")
        flat = {f"{name}.{what}": int(number) for name, part in parts.items() for what, number in part.items()}
        runs = [int(batch["compute_infer"]["count"]) for batch in found["batch_stats"]]
        assert sum(runs) == int(found["execution_count"])
        return {**flat, **{name: int(found[name]) for name in ("inference_count", "execution_count", "last_inference")}}

    before = counted()
    client.infer(MODEL, [images(over, encoded)])
    client.infer(MODEL, [images(over, encoded[:1])])
    with pytest.raises(InferenceServerException):
        client.infer(MODEL, [images(over, [b"no image"])])
    after = counted()
    change = {name: after[name] - number for name, number in before.items()}
    assert change["inference_count"] == len(encoded) + 1
    assert 2 <= change["execution_count"] <= len(encoded) + 1
    assert (change["success.count"], change["fail.count"]) == (2, 1)
    assert change["last_inference"] >= 0
    spent = ("queue", "compute_input", "compute_infer", "compute_output")
    assert all(change[f"{name}.count"] == 2 for name in spent)
    assert all(change[f"{name}.ns"] > 0 for name in ("success", "fail", "compute_input", "compute_infer"))


def test_its_index_has_one_model(over: str, client: Any) -> None:
    index = as_json(over, client.get_model_repository_index())
    ready = {"name": MODEL, "version": "1", "state": "READY", "reason": ""}
    assert (index if over == OVER_HTTP else index["models"]) == [ready]


@pytest.mark.parametrize("method", ["get_model_config", "get_inference_statistics"])
def test_another_model_is_unknown(over: str, client: Any, method: str) -> None:
    for name, version in (("another", ""), (MODEL, "2")):
        with pytest.raises(InferenceServerException) as refused:
            getattr(client, method)(name, version)
        assert refused.value.status() == STATUS["unknown"][over]


def test_a_batch_gets_the_detectors_verdicts(
    over: str, client: Any, encoded: list[bytes], verdicts: list[Verdict]
) -> None:
    assert_is(client.infer(MODEL, [images(over, encoded)]), verdicts)


def test_bytes_may_be_a_plain_list_and_the_version_given(
    over: str, client: Any, encoded: list[bytes], verdicts: list[Verdict]
) -> None:
    result = client.infer(MODEL, [images(over, encoded[:1], (1,))], model_version="1")
    assert_is(result, verdicts[:1])


@pytest.mark.parametrize("row", [False, True])
def test_uint8_is_the_bytes_of_one_image(
    over: str, client: Any, row: bool, encoded: list[bytes], verdicts: list[Verdict]
) -> None:
    shape = (1, len(encoded[2])) if row else (len(encoded[2]),)
    assert_is(client.infer(MODEL, [uint8(over, encoded[2], shape)]), verdicts[2:3])


def test_crops_and_seed_are_request_parameters(over: str, client: Any, encoded: list[bytes], judge: Detector) -> None:
    result = client.infer(MODEL, [images(over, encoded[:2])], parameters={"crops": 3, "seed": 606})
    options = DetectOptions(crops=3, seed=606)
    assert_is(result, [judge.detect(image, options) for image in encoded[:2]])


def test_the_requests_id_is_in_the_answer(over: str, client: Any, encoded: list[bytes]) -> None:
    response = client.infer(MODEL, [images(over, encoded[2:3])], request_id="séance-42").get_response()
    assert (response["id"] if over == OVER_HTTP else response.id) == "séance-42"


def test_only_requested_outputs_are_answered_in_their_order(over: str, client: Any, encoded: list[bytes]) -> None:
    wanted = [MODULES[over].InferRequestedOutput(name) for name in ("label", "probability_fake")]
    result = client.infer(MODEL, [images(over, encoded[2:3])], outputs=wanted)
    response = result.get_response()
    outputs = response["outputs"] if over == OVER_HTTP else response.outputs
    names = [output["name"] if over == OVER_HTTP else output.name for output in outputs]
    assert names == ["label", "probability_fake"]
    assert result.as_numpy("boxes") is None
    assert result.as_numpy("label").shape == (1, 1)


def test_many_at_once_get_their_own_answers(
    over: str, client: Any, encoded: list[bytes], verdicts: list[Verdict]
) -> None:
    chosen = [encoded[number % len(encoded)] for number in range(10)]
    module = MODULES[over]
    if over == OVER_HTTP:
        with module.InferenceServerClient(client._parsed_url.netloc, concurrency=8) as wide:
            pending = [wide.async_infer(MODEL, [images(over, [image])]) for image in chosen]
            results = [request.get_result() for request in pending]
    else:
        found: dict[int, Any] = {}
        done = threading.Semaphore(0)

        def keep(number: int, result: Any, error: Any) -> None:
            found[number] = error or result
            done.release()

        for number, image in enumerate(chosen):
            client.async_infer(
                MODEL,
                [images(over, [image])],
                callback=lambda result, error, number=number: keep(number, result, error),
            )
        for _ in chosen:
            assert done.acquire(timeout=60)
        results = [found[number] for number in range(len(chosen))]
    for number, result in enumerate(results):
        assert_is(result, [verdicts[number % len(encoded)]])


def test_asyncio_clients_are_answered(
    over: str, whole_server: Process, encoded: list[bytes], verdicts: list[Verdict]
) -> None:
    if over == OVER_HTTP:
        import tritonclient.http.aio as module
    else:
        import tritonclient.grpc.aio as module

    small = [number for number, image in enumerate(encoded) if len(image) < 1 << 20]  # aiohttp warns of larger bodies

    async def ask() -> list[Any]:
        async with module.InferenceServerClient(getattr(whole_server, over)) as client:
            return await asyncio.gather(*(client.infer(MODEL, [images(over, [encoded[number]])]) for number in small))

    for number, result in zip(small, asyncio.run(ask()), strict=True):
        assert_is(result, [verdicts[number]])


def test_json_carries_images_as_base64_and_outputs_as_values(
    whole_server: Process, encoded: list[bytes], verdicts: list[Verdict]
) -> None:
    texts = np.array([base64.b64encode(image).decode() for image in encoded], np.object_).reshape(-1, 1)
    tensor = http_module.InferInput("image", [len(encoded), 1], "BYTES")
    tensor.set_data_from_numpy(texts, binary_data=False)
    wanted = [http_module.InferRequestedOutput(output.name, binary_data=False) for output in OUTPUTS]
    with http_module.InferenceServerClient(whole_server.http) as client:
        result = client.infer(MODEL, [tensor], outputs=wanted)
    assert all("data" in output for output in result.get_response()["outputs"])
    assert_is(result, verdicts)


def test_json_carries_uint8_as_numbers(whole_server: Process, encoded: list[bytes], verdicts: list[Verdict]) -> None:
    smallest = min(encoded, key=len)
    tensor = http_module.InferInput("image_uint8", [len(smallest)], "UINT8")
    tensor.set_data_from_numpy(np.frombuffer(smallest, np.uint8), binary_data=False)
    with http_module.InferenceServerClient(whole_server.http) as client:
        assert_is(client.infer(MODEL, [tensor]), [verdicts[encoded.index(smallest)]])


def test_a_request_of_megabytes_is_answered(over: str, client: Any, judge: Detector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), np.uint8)
    done, encoded = cv2.imencode(".png", noise)
    assert done
    assert len(encoded) > 1 << 20
    image = encoded.tobytes()
    assert_is(client.infer(MODEL, [images(over, [image])]), [judge.detect(image)])


@pytest.mark.parametrize("cut", [300, -200])
def test_an_image_that_cannot_be_judged_is_refused_in_the_detectors_words(
    over: str, client: Any, encoded: list[bytes], judge: Detector, cut: int
) -> None:
    truncated = encoded[0][:cut]
    (failure,) = judge.detect_many([truncated])
    with pytest.raises(InferenceServerException) as refusal:
        client.infer(MODEL, [images(over, [encoded[1], truncated])])
    error = failure.error  # type: ignore[union-attr]
    assert refusal.value.message() == f"image 2 of 2: {error} [{error.kind}]"
    assert refusal.value.status() == STATUS[error.kind][over]


@pytest.mark.parametrize(
    ("model", "version", "name", "data", "shape", "status", "says"),
    [
        (
            "another",
            "",
            "image",
            [b"x"],
            (1, 1),
            "unknown",
            "model 'another' is not here; this server has 'mobilenet_v3_small'",
        ),
        (MODEL, "2", "image", [b"x"], (1, 1), "unknown", "version '2' is not here"),
        (MODEL, "", "image", [b"hello"], (1, 1), "format", "not an image that can be read"),
        (MODEL, "", "image", [b""], (1, 1), "format", "[format]"),
        (MODEL, "", "pixels", [b"x"], (1, 1), "bad", "input 'pixels' is not known"),
        (MODEL, "", "image", [b"x", b"y"], (1, 2), "bad", "expected BYTES [B] or [B, 1]"),
        (MODEL, "", "image", [b"x"] * 65, (65, 1), "too_large", "65 images in one request; this server takes "),
        (MODEL, "", "image", [b"x"] * 300, (300, 1), "bad", "300 images in one request"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(
    over: str,
    client: Any,
    model: str,
    version: str,
    name: str,
    data: list[bytes],
    shape: tuple[int, int],
    status: str,
    says: str,
) -> None:
    with pytest.raises(InferenceServerException) as refusal:
        client.infer(model, [images(over, data, shape, name)], model_version=version)
    assert says in refusal.value.message()
    assert refusal.value.status() == STATUS[status][over]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"crops": 0}, "crops: got 0"),
        ({"crops": 1000}, "crops: got 1000"),
        ({"crops": 100}, "this server allows 64"),
        ({"seed": -1}, "seed: got -1"),
        ({"croops": 3}, "'croops' is not known"),
    ],
)
def test_impossible_parameters_are_refused(
    over: str, client: Any, encoded: list[bytes], parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(InferenceServerException) as refusal:
        client.infer(MODEL, [images(over, encoded[2:3])], parameters=parameters)
    assert says in refusal.value.message()
    assert refusal.value.status() == STATUS["bad"][over]


def test_an_unknown_output_is_refused(over: str, client: Any, encoded: list[bytes]) -> None:
    with pytest.raises(InferenceServerException, match="output 'logits' is not known") as refusal:
        client.infer(MODEL, [images(over, encoded[:1])], outputs=[MODULES[over].InferRequestedOutput("logits")])
    assert refusal.value.status() == STATUS["bad"][over]


def test_metadata_of_an_unknown_model_are_refused(over: str, client: Any) -> None:
    for arguments in (("another",), (MODEL, "2")):
        with pytest.raises(InferenceServerException) as refusal:
            client.get_model_metadata(*arguments)
        assert refusal.value.status() == STATUS["unknown"][over]
