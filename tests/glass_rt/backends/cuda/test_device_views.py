"""Views made on the device: the kernels' own source, compiled for the CPU, works on the memory of the GPU in memory."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glass_rt.backends.cuda import device_views
from glass_rt.backends.cuda.device_pixels import DevicePixels
from glass_rt.backends.cuda.device_views import SLOTS, DeviceViews
from glass_rt.backends.cuda.gpu import GpuError, GpuOutOfMemory
from glass_rt.backends.cuda.pinned_views import PinnedViews
from glass_rt.detector import Detector
from glass_rt.errors import UsageError
from glass_rt.image.sampling import stratified
from glass_rt.image.views import HostViews, ViewWriter, cut_crops
from glass_rt.inference.head import Head
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.placement import check_views
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Verdict
from tests.fake_gpu import FakeGpu
from tests.support import Bundles

GpuWithKernels = Callable[..., FakeGpu]


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def read(gpu: FakeGpu, array: Any) -> NDArray[Any]:
    content: Any = gpu.bytes_at(array.address, array.nbytes).view(array.dtype).reshape(array.shape)
    copied: NDArray[Any] = content.copy()
    return copied


@pytest.mark.parametrize(("height", "width"), [(900, 1200), (230, 300), (100, 90)])
def test_both_views_are_those_made_in_memory(gpu_with_kernels: GpuWithKernels, height: int, width: int) -> None:
    gpu = gpu_with_kernels()
    pixels = picture(height, width)
    device: ViewWriter = DeviceViews(gpu)
    memory: ViewWriter = HostViews()
    boxes = stratified(height, width, 4, 606, 224).boxes
    found, expected = (
        (views.empty((2, 224, 224, 3), np.float32), views.empty((9, 224, 224, 3), np.uint8))
        for views in (device, memory)
    )
    for views, (wholes, crops) in ((device, found), (memory, expected)):
        views.write(pixels, boxes, wholes[1], crops[3:7])
    np.testing.assert_array_equal(read(gpu, found[1][3:7]), expected[1][3:7])
    np.testing.assert_allclose(read(gpu, found[0][1:2])[0], expected[0][1], atol=0.01)
    assert (read(gpu, found[1][:3]) == 0xA5).all(), "other images' crops are not touched"
    np.testing.assert_array_equal(read(gpu, found[1][[5, 4]]), expected[1][[5, 4]])
    np.testing.assert_array_equal(read(gpu, found[1][np.arange(9) == 6]), expected[1][6:7])
    device.close()
    assert gpu.live == {}


def test_pixels_that_lie_on_the_device_are_not_copied_there(gpu_with_kernels: GpuWithKernels) -> None:
    gpu = gpu_with_kernels()
    views, pixels = DeviceViews(gpu), picture(700, 500)
    boxes = stratified(700, 500, 3, 606, 224).boxes
    wholes, crops = views.empty((2, 224, 224, 3), np.float32), views.empty((6, 224, 224, 3), np.uint8)
    with gpu.current():
        there = gpu.allocate(pixels.nbytes)
    gpu.bytes_at(there.address, there.nbytes)[:] = pixels.reshape(-1)
    views.write(pixels, boxes, wholes[0], crops[:3])
    gpu.calls.clear()
    views.write(DevicePixels(there.address, 700, 500), boxes, wholes[1], crops[3:])
    assert gpu.calls.count("copy_in") == 3, "boxes and the two tables of weights"
    np.testing.assert_array_equal(read(gpu, wholes[:1]), read(gpu, wholes[1:]))
    np.testing.assert_array_equal(read(gpu, crops[:3]), read(gpu, crops[3:]))
    with gpu.current():
        gpu.free(there)
    views.close()
    assert gpu.live == {}


@pytest.mark.slow
def test_memory_of_packs_is_used_again(gpu_with_kernels: GpuWithKernels) -> None:
    gpu = gpu_with_kernels()
    views = DeviceViews(gpu)
    for _ in range(5):
        rows = views.empty((4, 8, 8, 3), np.uint8)[1:3]  # a slice keeps the whole
        other = views.empty((4, 8, 8, 3), np.uint8)
        assert not rows.address <= other.address < rows.address + rows.nbytes
        del rows, other
        gc.collect()
    assert gpu.calls.count("allocate") == 2
    views.close()
    assert gpu.live == {}


@pytest.mark.slow
@pytest.mark.parametrize("options", [DetectOptions(), DetectOptions(crops=3), DetectOptions(crops="auto", margin=1e3)])
def test_verdicts_are_those_of_views_made_in_memory(
    gpu_with_kernels: GpuWithKernels, bench: Any, bundles: Bundles, options: DetectOptions
) -> None:
    bundle = bundles("mobilenet_v3_small")
    dim = bench.expected(np.zeros((1, 224, 224, 3))).shape[1]
    model = replace(bundle.manifest.model, embedding_dim=dim)
    generator = np.random.default_rng(0)
    tensors = {
        name: generator.normal(size=[dim if n == 576 else 2 * dim if n == 1152 else n for n in value.shape]) * 0.1
        for name, value in bundle.head().items()
    }
    head = Head.for_model(model, {name: value.astype(np.float32) for name, value in tensors.items()})
    pictures = [picture(900, 1200, 1), picture(700, 240, 2), picture(300, 300, 3), picture(2000, 1100, 4)]

    def verdicts(kind: str) -> list[Verdict]:
        gpu = gpu_with_kernels()
        gpu.close = lambda: None  # type: ignore[method-assign]  # one context is shared, as the primary one is
        engines = {role: bench.open(gpu, role=role, view=224) for role in ("global", "local")}
        views: ViewWriter = HostViews()
        if kind != "in memory":
            views = DeviceViews(gpu) if kind == "on the device" else PinnedViews(gpu, 1 << 30)
        with Detector(OpenedBundle(bundle, engines, head, 16, views)) as detector:
            found = [detector.detect(pictures[0], options), *detector.detect_many(pictures, options)]
        gc.collect()
        assert gpu.live == {}
        return [result for result in found if isinstance(result, Verdict)]

    plain, made_there = verdicts("in memory"), verdicts("on the device")
    assert len(plain) == len(made_there) == 5
    assert [v.probability_fake for v in verdicts("pinned")] == [v.probability_fake for v in plain]
    assert len({verdict.probability_fake for verdict in plain[1:]}) == 4, "the pictures differ for these engines"
    assert plain[0].probability_fake == pytest.approx(plain[1].probability_fake, abs=1e-6), "the same picture alone"
    for one, other in zip(plain, made_there, strict=True):
        assert other.probability_fake == pytest.approx(one.probability_fake, abs=1e-4)
        assert [crop.left for crop in other.crops] == [crop.left for crop in one.crops]
        assert [c.attention for c in other.crops] == pytest.approx([c.attention for c in one.crops], abs=1e-4)


def test_memory_of_a_pack_under_way_is_not_used_again(bench: Any) -> None:
    gpu = FakeGpu()
    gpu.close = lambda: None  # type: ignore[method-assign]
    engine, views = bench.open(gpu), DeviceViews(gpu)
    pixels, array = bench.views(20), views.empty((20, 8, 8, 3), np.uint8)
    gpu.bytes_at(array.address, array.nbytes)[:] = pixels.reshape(-1)
    wait = engine.submit({"pixels": array})
    del array
    gc.collect()
    other = views.empty((20, 8, 8, 3), np.uint8)
    gpu.bytes_at(other.address, other.nbytes)[:] = 0  # before the engine has come to read its pack
    np.testing.assert_allclose(wait()["embedding"], bench.expected(pixels), atol=0.05)


def test_images_are_on_their_way_at_the_same_time(gpu_with_kernels: GpuWithKernels) -> None:
    """Each of four threads waits, between its copy and its wait for the GPU, until the others have come as far."""
    gpu = gpu_with_kernels()
    views, together = DeviceViews(gpu), threading.Barrier(SLOTS)
    record = gpu.record
    failures: list[BaseException] = []

    def recorded(event: int, stream: int) -> None:
        together.wait(20)
        record(event, stream)

    gpu.record = recorded  # type: ignore[method-assign]
    boxes = stratified(300, 300, 1, 606, 224).boxes
    places = [(views.empty((1, 224, 224, 3), np.float32), views.empty((1, 224, 224, 3), np.uint8)) for _ in range(8)]

    def work(seed: int) -> None:
        try:
            wholes, crops = places[seed]
            views.write(picture(300, 300, seed), boxes, wholes[0], crops)
        except BaseException as error:  # pytest does not see other threads
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for seed, (_, crops) in enumerate(places):
        expected = np.empty((1, 224, 224, 3), np.uint8)
        cut_crops(picture(300, 300, seed), boxes, expected)
        np.testing.assert_array_equal(read(gpu, crops), expected)
    views.close()
    assert gpu.live == {}


def test_an_image_that_the_gpu_has_no_memory_for_is_an_error_of_that_image(gpu_with_kernels: GpuWithKernels) -> None:
    gpu = gpu_with_kernels(8 << 20)
    views = DeviceViews(gpu)
    wholes, crops = views.empty((1, 224, 224, 3), np.float32), views.empty((1, 224, 224, 3), np.uint8)
    boxes = stratified(300, 300, 1, 606, 224).boxes
    with pytest.raises(GpuOutOfMemory):
        views.write(picture(2000, 3000), boxes, wholes[0], crops)
    views.write(picture(300, 300), boxes, wholes[0], crops)
    views.close()
    assert gpu.live == {}


@pytest.mark.parametrize(("call", "after"), [("launch", 1), ("launch", 2), ("allocate", 3), ("copy_in", 2)])
def test_an_image_that_failed_half_way_leaves_no_work_behind(
    gpu_with_kernels: GpuWithKernels, call: str, after: int
) -> None:
    """Its place in a pack, its pixels and its slot have another use by then."""
    gpu = gpu_with_kernels()
    views = DeviceViews(gpu)
    wholes, crops = views.empty((1, 224, 224, 3), np.float32), views.empty((1, 224, 224, 3), np.uint8)
    boxes = stratified(300, 300, 1, 606, 224).boxes
    gpu.fail(call, "OUT_OF_MEMORY", after)
    with pytest.raises(GpuOutOfMemory):
        views.write(picture(300, 300, 1), boxes, wholes[0], crops)
    assert not any(gpu._streams.values())
    views.write(picture(300, 300, 2), boxes, wholes[0], crops)
    expected = np.empty((1, 224, 224, 3), np.uint8)
    cut_crops(picture(300, 300, 2), boxes, expected)
    np.testing.assert_array_equal(read(gpu, crops), expected)
    views.close()
    assert gpu.live == {}


def test_rows_of_any_number_do_not_keep_memory_of_their_own_for_good() -> None:
    """`crops auto` gathers another number of rows for every pack."""
    gpu = FakeGpu()
    views = DeviceViews(gpu)
    pack = views.empty((300, 16, 16, 3), np.uint8)
    for count in range(1, 301):
        rows = pack[list(range(count))]
        del rows
        gc.collect(0)
    assert gpu.calls.count("allocate") < 45, "four sizes per doubling"
    assert gpu.peak_bytes < 12 * pack.nbytes
    views.close()
    assert gpu.live == {}


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
def test_an_image_goes_by_pieces_through_little_pinned_memory(
    gpu_with_kernels: GpuWithKernels, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    """The GPU in memory copies as late as it may: a piece that is overwritten too early gives wrong pixels."""
    pixels = picture(700, 500)
    monkeypatch.setattr(device_views, "PIECE", -(-pixels.nbytes // pieces))
    gpu = gpu_with_kernels()
    views = DeviceViews(gpu)
    boxes = stratified(700, 500, 3, 606, 224).boxes
    wholes, crops = views.empty((1, 224, 224, 3), np.float32), views.empty((3, 224, 224, 3), np.uint8)
    for image in (pixels[:200], pixels):  # the second needs more memory than the first
        views.write(image, boxes if image is pixels else (), wholes[0], crops)
    expected = np.empty((3, 224, 224, 3), np.uint8)
    cut_crops(pixels, boxes, expected)
    np.testing.assert_array_equal(read(gpu, crops), expected)
    scratch = views._slots[-1]._scratch
    assert sum(scratch[name].nbytes for name in scratch if name.startswith("pinned image")) <= 2 * device_views.PIECE
    views.close()
    assert gpu.live == {}


def test_memory_of_a_very_large_image_is_not_kept(
    gpu_with_kernels: GpuWithKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_views, "LARGEST_KEPT", 300 * 300 * 3)
    gpu = gpu_with_kernels()
    views = DeviceViews(gpu)
    wholes, crops = views.empty((1, 224, 224, 3), np.float32), views.empty((1, 224, 224, 3), np.uint8)
    boxes = stratified(300, 300, 1, 606, 224).boxes
    held = []
    for height in (300, 301, 300):
        views.write(picture(height, 300), boxes, wholes[0], crops)
        held.append("device image" in views._slots[-1]._scratch)
    assert held == [True, False, True]
    views.close()
    assert gpu.live == {}


def test_an_image_gets_the_memory_that_packs_left_idle(gpu_with_kernels: GpuWithKernels) -> None:
    gpu = gpu_with_kernels(12 << 20)
    views = DeviceViews(gpu)
    wholes, crops = views.empty((1, 224, 224, 3), np.float32), views.empty((1, 224, 224, 3), np.uint8)
    pack = views.empty((40, 224, 224, 3), np.uint8)
    del pack
    gc.collect()
    assert gpu.memory()[0] < 6 << 20, "an image of 1200 x 1200 takes 4.3 MB, and 3.2 MB while it is made smaller"
    boxes = stratified(1200, 1200, 1, 606, 224).boxes
    views.write(picture(1200, 1200), boxes, wholes[0], crops)
    expected = np.empty((1, 224, 224, 3), np.uint8)
    cut_crops(picture(1200, 1200), boxes, expected)
    np.testing.assert_array_equal(read(gpu, crops), expected)
    views.close()
    assert gpu.live == {}


def test_views_of_a_lost_context_can_be_closed(gpu_with_kernels: GpuWithKernels) -> None:
    gpu = gpu_with_kernels()
    views = DeviceViews(gpu)
    wholes, crops = views.empty((1, 224, 224, 3), np.float32), views.empty((1, 224, 224, 3), np.uint8)
    gpu.fail("synchronize_event", "ILLEGAL_ADDRESS")
    with pytest.raises(GpuError, match="restart this process"):
        views.write(picture(300, 300), stratified(300, 300, 1, 606, 224).boxes, wholes[0], crops)
    views.close()  # the driver refuses to free; the error that matters is the one before
    assert gpu.closed


@pytest.mark.parametrize(
    ("backend", "architecture", "views", "message"),
    [
        ("onnxruntime", "glass", "device", "onnxruntime engines read views from memory"),
        ("tensorrt", "resize", "device", "only made in memory"),
        ("tensorrt", "glass", "gpu", "got 'gpu'; expected host or device"),
    ],
)
def test_views_are_refused_where_they_cannot_be_made(backend: str, architecture: str, views: str, message: str) -> None:
    manifest: Any = SimpleNamespace(
        engine=SimpleNamespace(backend=backend), model=SimpleNamespace(architecture=architecture)
    )
    with pytest.raises(UsageError, match=message):
        check_views(manifest, views)
    check_views(manifest, "host")
