"""The real Triton server with the real client, where the environment names them (`make triton-check`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from glass_rt import DetectOptions, Detector, Verdict
from glass_rt.serve.oip.protocol import OUTPUTS, describe
from glass_rt.serve.triton.config import ServingOptions
from glass_rt.serve.triton.repository import write_model
from tests.support import Bundles
from tests.tritonserver import VARIABLE, TritonServer

NAME, SMALL = "resnet18", "resnet18_resize"


@pytest.fixture(scope="module")
def environment() -> Path:
    named = os.environ.get(VARIABLE)
    if not named:
        pytest.skip(f"{VARIABLE} names no Python environment with a Triton server: run `make triton-check`")
    return Path(named).absolute()


@pytest.fixture(scope="module")
def repository(bundles: Bundles, environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    options = ServingOptions(max_batch=4, environment=environment)
    for bundle in (bundles("resnet18"), bundles("resnet18", "resize")):
        write_model(bundle, folder, options)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path, environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    work = tmp_path_factory.mktemp("triton")
    with TritonServer(environment, repository, tuple(path.name for path in repository.iterdir()), work) as running:
        yield running


class Client:
    """One of the two clients, which are spelled alike."""

    def __init__(self, kind: str, server: TritonServer) -> None:
        self._module: Any = {"http": tritonclient.http, "grpc": tritonclient.grpc}[kind]
        self.api: Any = self._module.InferenceServerClient(
            f"127.0.0.1:{server.http_port if kind == 'http' else server.grpc_port}"
        )

    def infer(
        self, *images: bytes, model: str = NAME, uint8: bool = False, parameters: dict[str, Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        if uint8:
            array: NDArray[Any] = np.frombuffer(images[0], np.uint8)[None]
            tensor = self._module.InferInput("image_uint8", array.shape, "UINT8")
        else:
            array = np.array(images, np.object_)[:, None]
            tensor = self._module.InferInput("image", array.shape, "BYTES")
        tensor.set_data_from_numpy(array)
        reply = self.api.infer(model, [tensor], parameters=parameters)
        return {output.name: reply.as_numpy(output.name) for output in OUTPUTS}


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: TritonServer) -> Iterator[Client]:
    opened = Client(request.param, server)
    yield opened
    opened.api.close()


@pytest.fixture(scope="module")
def detector(bundles: Bundles) -> Iterator[Detector]:
    with Detector.open(bundles("resnet18").folder) as opened:
        yield opened


def assert_row_is(outputs: dict[str, NDArray[Any]], row: int, verdict: Verdict) -> None:
    """Row `row` of every output is that verdict; another batch may move a probability by 1e-5."""
    used = len(verdict.crops)
    said = json.loads(outputs["verdict"][row, 0])
    mine = json.loads(json.dumps(verdict.to_json()))
    for noisy in ("crops", "probability_fake", "probabilities", "logits", "timings_ms", "path"):
        del said[noisy], mine[noisy]
    assert said == mine
    assert outputs["label"][row, 0] == verdict.label.encode()
    assert outputs["probability_fake"][row, 0] == pytest.approx(verdict.probability_fake, abs=1e-5)
    assert outputs["probabilities"][row] == pytest.approx(list(verdict.probabilities.values()), abs=1e-5)
    assert outputs["boxes"][row, :used].tolist() == [[c.left, c.top, c.width, c.height] for c in verdict.crops]
    assert outputs["attention"][row, :used] == pytest.approx([c.attention for c in verdict.crops], abs=1e-4)
    assert not outputs["boxes"][row, used:].any()
    assert not outputs["attention"][row, used:].any()


def test_the_metadata_are_those_of_the_protocol(client: Client, detector: Detector) -> None:
    assert client.api.is_server_live()
    assert client.api.is_server_ready()
    assert client.api.is_model_ready(NAME)
    metadata = client.api.get_model_metadata(
        NAME, **({} if isinstance(client.api, tritonclient.http.InferenceServerClient) else {"as_json": True})
    )
    told = describe(detector.manifest).to_json()
    assert (metadata["name"], metadata["versions"]) == (told["name"], told["versions"])
    for side in ("inputs", "outputs"):
        found = [(t["name"], t["datatype"], [int(size) for size in t["shape"]]) for t in metadata[side]]
        assert found == [(t["name"], t["datatype"], t["shape"]) for t in told[side]]


def test_a_batch_gets_the_verdicts_of_the_detector(
    client: Client, detector: Detector, pictures: tuple[Path, ...]
) -> None:
    outputs = client.infer(*(path.read_bytes() for path in pictures[:4]))
    for row, path in enumerate(pictures[:4]):
        assert_row_is(outputs, row, detector.detect(path))


def test_real_photographs_get_the_verdicts_of_the_detector(
    client: Client, detector: Detector, real_images: Path
) -> None:
    for path in sorted((real_images / "real").glob("*.*"))[:3]:
        assert_row_is(client.infer(path.read_bytes()), 0, detector.detect(path))


def test_the_bytes_of_an_image_may_be_uint8(client: Client, detector: Detector, pictures: tuple[Path, ...]) -> None:
    assert_row_is(client.infer(pictures[1].read_bytes(), uint8=True), 0, detector.detect(pictures[1]))


def test_crops_and_seed_are_those_of_the_request(
    client: Client, detector: Detector, pictures: tuple[Path, ...]
) -> None:
    outputs = client.infer(pictures[0].read_bytes(), parameters={"crops": 3, "seed": 606})
    assert outputs["boxes"].shape == (1, 3, 4)
    assert_row_is(outputs, 0, detector.detect(pictures[0], DetectOptions(crops=3, seed=606)))
    mixed = client.infer(*(path.read_bytes() for path in pictures[:3]), parameters={"crops": "auto"})
    for row, path in enumerate(pictures[:3]):
        assert_row_is(mixed, row, detector.detect(path, DetectOptions(crops="auto")))


def test_the_resize_only_model_answers_without_crops(
    client: Client, bundles: Bundles, pictures: tuple[Path, ...]
) -> None:
    bundle = bundles("resnet18", "resize")
    outputs = client.infer(pictures[0].read_bytes(), model=bundle.manifest.model.name)
    assert (outputs["boxes"].shape, outputs["attention"].shape) == ((1, 0, 4), (1, 0))
    with Detector.open(bundle.folder) as resize:
        assert_row_is(outputs, 0, resize.detect(pictures[0]))


@pytest.mark.parametrize(
    ("images", "parameters", "reason"),
    [
        ((b"no image",), {}, r"\[format\]"),
        ((b"\xff\xd8\xff\xe0broken",), {}, r"\[corrupt\]|\[format\]"),
        ((b"",), {}, r"\[format\]"),
        ((b"no image",) * 5, {}, "batch-size must be <= 4"),  # by Triton itself
        ((b"no image",), {"crop": 3}, r"'crop' is not known; expected crops or seed \[usage\]"),
        ((b"no image",), {"crops": 257}, r"crops: got 257"),
    ],
)
def test_what_cannot_be_judged_is_an_error_of_its_request(
    client: Client, images: tuple[bytes, ...], parameters: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InferenceServerException, match=reason):
        client.infer(*images, parameters=parameters)


def test_one_bad_image_of_a_request_is_named(client: Client, pictures: tuple[Path, ...]) -> None:
    with pytest.raises(InferenceServerException, match=r"image 2 of 2: .* \[format\]"):
        client.infer(pictures[0].read_bytes(), b"no image")


def test_requests_at_the_same_time_share_batches_and_get_their_own_answers(
    server: TritonServer, detector: Detector, pictures: tuple[Path, ...]
) -> None:
    images = [path.read_bytes() for path in pictures]
    options = [DetectOptions(crops=1 + number % 3, seed=number) for number in range(24)]
    expected = [detector.detect(images[number % 8], option) for number, option in enumerate(options)]
    before = server.get(f"/v2/models/{NAME}/stats")[1]["model_stats"][0]

    def ask(number: int) -> dict[str, NDArray[Any]] | None:
        client = Client("grpc" if number % 2 else "http", server)  # of its own: the HTTP client has one connection
        try:
            if number % 8 == 7:
                with pytest.raises(InferenceServerException, match=r"\[format\]"):
                    client.infer(b"no image %d" % number)
                return None
            return client.infer(
                images[number % 8],
                uint8=number % 5 == 0,
                parameters={"crops": options[number].crops, "seed": options[number].seed},
            )
        finally:
            client.api.close()

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(ask, range(24)))
    for response, verdict in zip(responses, expected, strict=True):
        if response is not None:
            assert_row_is(response, 0, verdict)
    after = server.get(f"/v2/models/{NAME}/stats")[1]["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 24
    assert after["execution_count"] - before["execution_count"] < 24


def canary(repository: Path, server: TritonServer, model: str = NAME) -> subprocess.CompletedProcess[str]:
    script = repository / model / "canary.py"
    command = [sys.executable, "-I", str(script), "--url", server.url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_canary_lives_while_the_model_does(server: TritonServer, repository: Path, tmp_path: Path) -> None:
    done = canary(repository, server)
    assert (done.returncode, done.stderr) == (0, "")
    other = tmp_path / NAME
    (other / "1" / "bundle").mkdir(parents=True)
    (other / "canary.py").write_text((repository / NAME / "canary.py").read_text())
    (other / "1" / "bundle" / "manifest.json").write_text("{}")
    done = canary(tmp_path, server)
    assert done.returncode == 1
    assert "the verdict is by bundle" in done.stderr


def test_a_full_queue_refuses_and_two_instances_answer(
    bundles: Bundles, environment: Path, detector: Detector, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    options = ServingOptions(instances=2, max_batch=1, queue=1, environment=environment)
    write_model(bundles("resnet18"), tmp_path / "repository", options)
    image = pictures[0].read_bytes()
    with TritonServer(environment, tmp_path / "repository", (NAME,), tmp_path) as server:
        assert len(server.stubs()) == 2

        def ask(_: int) -> dict[str, NDArray[Any]] | str:
            client = Client("grpc", server)
            try:
                return client.infer(image)
            except InferenceServerException as error:
                return f"{error.status()} {error.message()}"
            finally:
                client.api.close()

        with ThreadPoolExecutor(12) as pool:
            responses = list(pool.map(ask, range(24)))
    verdict = detector.detect(image)
    refused = [response for response in responses if isinstance(response, str)]
    assert 0 < len(refused) < 24
    for response in responses:
        if isinstance(response, str):
            assert "Exceeds maximum queue size" in response
        else:
            assert_row_is(response, 0, verdict)


def test_a_bundle_that_was_exchanged_is_not_loaded(bundles: Bundles, environment: Path, tmp_path: Path) -> None:
    folder = write_model(bundles("resnet18"), tmp_path / "repository", ServingOptions(environment=environment))
    manifest = folder / "1" / "bundle" / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()  # it may be a hard link to the bundle's own
    manifest.write_text(text + " ")
    with (
        pytest.raises(AssertionError, match="another bundle"),
        TritonServer(environment, tmp_path / "repository", (NAME,), tmp_path),
    ):
        pass


def test_a_model_whose_process_died_is_ready_to_triton_and_not_to_the_canary(
    environment: Path, repository: Path, tmp_path: Path
) -> None:
    with TritonServer(environment, repository, (NAME,), tmp_path) as server:
        assert canary(repository, server).returncode == 0
        (stub,) = server.stubs()
        os.kill(stub, signal.SIGKILL)
        done = canary(repository, server)
        assert done.returncode == 1
        assert "HTTP 500" in done.stderr
        assert server.get("/v2/health/ready")[0] == server.get(f"/v2/models/{NAME}/ready")[0] == 200
