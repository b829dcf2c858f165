"""Images decoded in batches beside the CPU's threads, by nvImageCodec's CPU backend: verdicts are the same, bit for bit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from glass_rt.backends.cuda.gpu import gpu_error
from glass_rt.backends.cuda.image_codec import DecodedImage, Encoded, ImageCodec
from glass_rt.detector import Detector
from glass_rt.errors import BackendError, ImageCorrupt, UsageError
from glass_rt.image.encoded import read_image
from glass_rt.inference import device_decoding
from glass_rt.inference.device_decoding import MOST_FAILURES, MOST_WAITING, DeviceDecoding
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.placement import check_decode, place_of_views
from glass_rt.inference.prepared_image import DecodedSource
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.results.verdict import Failure, Verdict
from tests import jpegs

if TYPE_CHECKING:
    from tests.support import Bundles

NOTICE = "decoded by nvImageCodec on the CPU"


class Watched(ImageCodec):
    """Nothing of it is replaced: it counts, and fails or waits where a test asks for it."""

    def __init__(self) -> None:
        super().__init__(None)
        self.batches: list[int] = []
        self.held = 0
        self.errors: list[Exception] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def decode(self, batch: Sequence[Encoded]) -> list[DecodedImage | None]:
        self.batches.append(len(batch))
        assert self.go_on.wait(60)
        if self.errors:
            raise self.errors.pop(0)
        found = super().decode(batch)
        self.held += sum(image is not None for image in found)
        return found

    def release(self, decoded: DecodedImage) -> None:
        self.held -= 1
        super().release(decoded)


@pytest.fixture
def codec() -> Iterator[Watched]:
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed: pip install 'glass-rt[decode]'")
    opened = Watched()
    yield opened
    assert opened.held == 0, "every image was given back"


@pytest.fixture(scope="module")
def opened(bundles: Bundles) -> Iterator[OpenedBundle]:
    bundle = OpenedBundle.open(bundles("mobilenet_v3_small", crops=4), RunOptions(batch=1))  # runs of one shape
    yield bundle
    bundle.close()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Of every kind, whole and not, in a mixed order."""
    made = {name: make() for name, make in jpegs.READ.items()}
    made |= {name: make() for name, (make, _) in jpegs.REFUSED.items()}
    order = np.random.default_rng(0).permutation(len(made))
    return {name: made[name] for name in np.array(list(made))[order]}


def evidence(result: Verdict | Failure, *, notices: bool = True) -> Any:
    if isinstance(result, Failure):
        return type(result.error), str(result.error), getattr(result.error, "sha256", None)
    said = tuple(notice for notice in result.notices if notice != NOTICE) if notices else ()
    return (
        result.sha256, result.probability_fake, result.logits, result.crops, result.seed, result.orientation, said,
        result.width, result.height, result.jpeg_quality,
    )  # fmt: skip


def judged(opened: OpenedBundle, sources: list[Any], codec: ImageCodec | None, workers: int = 2) -> list[Any]:
    detector = Detector(replace(opened, codec=codec), workers)
    return list(detector.detect_many(sources, DetectOptions(seed=3, crops=1)))


def noted(results: list[Any]) -> list[bool]:
    return [isinstance(result, Verdict) and NOTICE in result.notices for result in results]


@pytest.fixture(scope="module")
def expected(opened: OpenedBundle, files: dict[str, bytes]) -> list[Any]:
    return [evidence(result) for result in judged(opened, list(files.values()), None)]


def test_verdicts_and_errors_are_those_of_the_cpu_bit_for_bit(
    opened: OpenedBundle, files: dict[str, bytes], expected: list[Any], codec: Watched
) -> None:
    """Every kind of file, also those that are refused; the ones that the codec decoded say so."""
    results = judged(opened, list(files.values()), codec)
    assert [evidence(result) for result in results] == expected
    assert {name for name, said in zip(files, noted(results), strict=True) if said} <= set(jpegs.READ)
    assert sum(noted(results)) == sum(codec.batches) >= 2


def test_one_image_alone_is_decoded_there_too(opened: OpenedBundle, codec: Watched) -> None:
    plain, there = Detector(opened), Detector(replace(opened, codec=codec))
    for data, said in ((jpegs.plain(), True), (jpegs.turned(), True), (jpegs.REFUSED["progressive"][0](), False)):
        verdict = there.detect(data)
        assert evidence(verdict) == evidence(plain.detect(data))
        assert (NOTICE in verdict.notices) is said
        assert evidence(there.detect(jpegs.picture())) == evidence(plain.detect(jpegs.picture())), "an array"
    with pytest.raises(ImageCorrupt):
        there.detect(jpegs.plain()[:-2])
    codec.errors = [BackendError("the codec fails")]
    verdict = there.detect(jpegs.plain())
    assert NOTICE not in verdict.notices
    assert evidence(verdict) == evidence(plain.detect(jpegs.plain()))


@pytest.mark.parametrize(
    "errors",
    [
        [BackendError("nvImageCodec: it fails")],
        [ValueError("not an error of ours")],
        [gpu_error("cuStreamSynchronize", "OUT_OF_MEMORY")],
    ],
)
def test_a_batch_that_fails_is_decoded_by_the_cpu_and_the_next_there_again(
    opened: OpenedBundle, codec: Watched, errors: list[Exception]
) -> None:
    codec.errors = list(errors)
    results = judged(opened, [jpegs.plain()], codec) + judged(opened, [jpegs.plain()], codec)
    assert noted(results) == [False, True]
    assert evidence(results[0]) == evidence(results[1])


@pytest.mark.parametrize(
    ("error", "batches"),
    [(BackendError("it fails"), MOST_FAILURES), (gpu_error("cuStreamSynchronize", "ILLEGAL_ADDRESS"), 1)],
)
def test_a_codec_that_goes_on_failing_is_asked_no_more(
    codec: Watched, error: Exception, batches: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Three batches, or one after which the context is lost."""
    codec.errors = [error] * 100
    decoding = DeviceDecoding(codec, 1)
    outcomes: list[DecodedSource | None] = []
    for number in range(batches):
        assert offered(decoding, outcomes.append)
        wait_until(lambda wanted=number + 1: len(outcomes) == wanted)  # type: ignore[misc]
    assert not offered(decoding, outcomes.append)
    decoding.close()
    assert outcomes == [None] * batches
    assert "from now on the CPU decodes" in caplog.messages[-1]


def offered(decoding: DeviceDecoding, finish: Callable[[DecodedSource | None], object]) -> Future[Any] | None:
    result: Future[Any] = Future()

    def finished(decoded: DecodedSource | None) -> None:
        finish(decoded)
        result.set_result(decoded is not None)

    return result if decoding.offer(read_image(jpegs.plain()), result, finished) else None


def wait_until(there: Callable[[], object]) -> None:
    for _ in range(6000):
        if there():
            return
        time.sleep(0.01)
    raise AssertionError("it has not come to it in a minute")


def test_the_device_is_handed_one_batch_ahead_and_the_rest_is_left_to_the_cpu(codec: Watched) -> None:
    codec.go_on.clear()
    decoding = DeviceDecoding(codec, 2)
    pixels: list[Any] = []

    def keep(decoded: DecodedSource | None) -> None:
        assert decoded is not None
        pixels.append(np.array(decoded.pixels))

    first = offered(decoding, keep)
    assert first is not None
    wait_until(lambda: codec.batches == [1])  # one is at work
    waiting = [offered(decoding, keep) for _ in range(MOST_WAITING)]
    assert all(waiting), "one batch may wait"
    assert offered(decoding, keep) is None, "and no more"
    assert waiting[0] is not None
    waiting[0].cancel()
    codec.go_on.set()
    for result in (first, *waiting[1:]):
        assert result is not None
        assert result.result(60)
    decoding.close()
    assert codec.batches == [1, MOST_WAITING - 1], "what was given up meanwhile is not decoded"
    assert all((one == pixels[0]).all() for one in pixels)
    assert offered(decoding, keep) is None, "closed"


def test_large_files_wait_one_at_a_time(codec: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_decoding, "MOST_WAITING_BYTES", len(jpegs.plain()))
    codec.go_on.clear()
    decoding, done = DeviceDecoding(codec, 1), list[Any]()
    assert offered(decoding, done.append)
    wait_until(lambda: codec.batches == [1])
    assert [offered(decoding, done.append) is not None for _ in range(3)] == [True, False, False]
    codec.go_on.set()
    wait_until(lambda: len(done) == 2)
    decoding.close()


def test_closing_gives_up_what_waits_and_finishes_what_is_at_work(codec: Watched) -> None:
    codec.go_on.clear()
    decoding, done = DeviceDecoding(codec, 1), list[Any]()
    at_work = offered(decoding, done.append)
    wait_until(lambda: codec.batches == [1])
    waiting = [offered(decoding, done.append) for _ in range(3)]
    closing = threading.Thread(target=decoding.close)
    closing.start()
    wait_until(lambda: all(result is not None and result.cancelled() for result in waiting))
    codec.go_on.set()
    closing.join(60)
    assert at_work is not None
    assert at_work.result(60)
    assert len(done) == 1


def test_a_pipeline_that_is_closed_leaves_nobody_waiting(opened: OpenedBundle, codec: Watched) -> None:
    pipeline = Detector(replace(opened, codec=codec)).pipeline(workers=2)
    futures = [pipeline.submit(jpegs.plain(), DetectOptions(seed=3)) for _ in range(30)]
    pipeline.close()
    assert all(future.done() for future in futures)
    assert len({evidence(future.result()) for future in futures if not future.cancelled()}) <= 1


def test_a_cpu_refuses_to_decode_on_the_device(bundles: Bundles) -> None:
    with pytest.raises(UsageError, match=r"decode: device is for engines on an NVIDIA GPU, and these run on cpu"):
        Detector.open(bundles("mobilenet_v3_small", crops=4).folder, decode="device")
    with pytest.raises(UsageError, match=r"decode: got 'gpu'; expected cpu or device"):
        RunOptions(decode="gpu")


@pytest.mark.parametrize(
    ("backend", "architecture", "run", "place"),
    [
        ("tensorrt", "glass", RunOptions(decode="device"), "device"),
        ("tensorrt_rtx", "glass", RunOptions("cuda:1", decode="device"), "device"),
        ("tensorrt", "resize", RunOptions(decode="device"), "host"),  # Pillow's resize is made in memory alone
        ("onnxruntime", "glass", RunOptions("cuda", decode="device"), "host"),
        ("tensorrt", "glass", RunOptions(), "host"),
        ("tensorrt", "glass", RunOptions(views="device"), "device"),
    ],
)
def test_views_are_made_where_the_pixels_are_if_the_engines_can_read_them(
    backend: str, architecture: str, run: RunOptions, place: str
) -> None:
    device = "cpu" if backend == "onnxruntime" else "cuda"
    manifest: Any = SimpleNamespace(
        engine=SimpleNamespace(backend=backend, device=device), model=SimpleNamespace(architecture=architecture)
    )
    check_decode(manifest, run)
    assert place_of_views(manifest, run) == place


def test_files_in_a_folder_are_decoded_there(opened: OpenedBundle, codec: Watched, tmp_path: Path) -> None:
    """By their paths, which the verdicts keep."""
    paths = []
    for index, name in enumerate(("4:2:0", "grey", "a film behind it")):
        paths.append(tmp_path / f"{index}.jpg")
        paths[-1].write_bytes(jpegs.READ[name]())
    results = judged(opened, [str(path) for path in paths], codec)
    assert [result.path for result in results] == [str(path) for path in paths]
    assert any(noted(results))
