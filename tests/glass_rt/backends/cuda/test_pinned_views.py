"""Packs in pinned memory: the GPU in memory copies as late as a real one may, so memory that is used again shows."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import glass_rt.backends.cuda
from glass_rt.backends.cuda import pinned_views
from glass_rt.backends.cuda.device_views import DeviceViews
from glass_rt.backends.cuda.pinned_views import PinnedViews, is_pinned, most_pinned
from glass_rt.image.views import HostViews
from glass_rt.inference.placement import open_views
from glass_rt.options import RunOptions
from tests.fake_gpu import FakeGpu
from tests.fake_trt import Bench

SHAPE = (20, 8, 8, 3)
NBYTES = 20 * 8 * 8 * 3


class Watched(FakeGpu):
    """Remembers what was copied to it, and outlives its users, as the primary context does."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[NDArray[Any]] = []

    def copy_in(self, address: int, source: Any, stream: int) -> None:
        self.sources.append(source)
        super().copy_in(address, source, stream)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("change", "copied_before"),
    [
        (lambda array: array, False),
        (lambda array: array[3:7], False),
        (lambda array: array[[5, 4]], True),  # a copy, in ordinary memory
        (lambda array: array[::2], True),  # rows apart from each other
        (lambda array: np.array(array), True),
    ],
    ids=["pack", "slice", "rows", "every second", "copy"],
)
def test_the_gpu_copies_from_the_pack_itself(bench: Bench, change: Any, copied_before: bool) -> None:
    gpu = Watched()
    engine, views = bench.open(gpu), PinnedViews(gpu, 1 << 20)
    pack = views.empty(SHAPE, np.uint8)
    pack[:] = bench.views(20)
    pixels = change(pack)
    found = engine.run({"pixels": pixels})["embedding"]
    np.testing.assert_allclose(found, bench.expected(pixels), atol=0.05)
    assert gpu.sources
    assert {np.shares_memory(source, pack) for source in gpu.sources} == {not copied_before}
    engine.close()
    views.close()
    gpu.sources.clear()
    del pack, pixels
    assert gpu.live == {}


def test_memory_of_a_pack_under_way_is_not_used_again(bench: Bench) -> None:
    gpu = Watched()
    engine, views = bench.open(gpu), PinnedViews(gpu, 1 << 20)
    pixels, pack = bench.views(20), views.empty(SHAPE, np.uint8)
    pack[:] = pixels
    wait = engine.submit({"pixels": pack[:]})
    del pack
    gc.collect()
    gpu.sources.clear()
    views.empty(SHAPE, np.uint8)[:] = 0  # before the engine has come to read its pack
    np.testing.assert_allclose(wait()["embedding"], bench.expected(pixels), atol=0.05)


def test_memory_of_packs_is_used_again_and_freed_at_the_end() -> None:
    gpu = Watched()
    views = PinnedViews(gpu, 1 << 20)
    for _ in range(5):
        rows, other = views.empty(SHAPE, np.float32)[1:3], views.empty(SHAPE, np.float32)
        assert rows.dtype == other.dtype == np.float32
        assert not np.shares_memory(rows.base, other)
        del rows, other
        gc.collect()
    assert gpu.calls.count("allocate_pinned") == 2
    views.close()
    views.close()
    assert gpu.live == {}


def test_what_there_is_no_pinned_memory_for_lies_in_ordinary_memory() -> None:
    gpu = Watched()
    views = PinnedViews(gpu, 3 * NBYTES)
    packs = [views.empty(SHAPE, np.uint8) for _ in range(2)]
    gpu.fail("allocate_pinned", "OUT_OF_MEMORY")  # less than was hoped for: no more is asked for
    packs += [views.empty(SHAPE, np.uint8) for _ in range(2)]
    assert [is_pinned(pack) for pack in packs] == [True, True, False, False]
    assert not is_pinned(views.empty((0, 8, 8, 3), np.uint8))
    packs.clear()
    views.close()
    few = PinnedViews(gpu, NBYTES)
    packs = [few.empty(SHAPE, np.uint8) for _ in range(2)]
    assert [is_pinned(pack) for pack in packs] == [True, False]
    packs.clear()
    few.close()
    assert gpu.live == {}


def test_an_array_that_outlives_its_views_can_be_written() -> None:
    """By a thread that decodes while another one closes the detector: of freed memory it would die."""
    gpu = FakeGpu()
    views = PinnedViews(gpu, 1 << 20)
    pack, idle = views.empty(SHAPE, np.uint8), views.empty(SHAPE, np.float32)
    del idle
    gc.collect()
    views.close()
    assert (gpu.live, gpu.closed) == ({"pinned": 1}, False)
    pack[:] = 1
    del pack
    gc.collect()
    assert (gpu.live, gpu.closed) == ({}, True)
    views.close()


@pytest.mark.parametrize(
    ("backend", "where", "kind"),
    [
        ("tensorrt", "host", PinnedViews),
        ("tensorrt_rtx", "host", PinnedViews),
        ("tensorrt", "device", DeviceViews),
        ("onnxruntime", "host", HostViews),
        ("openvino", "host", HostViews),
    ],
)
def test_packs_for_tensorrt_are_pinned(monkeypatch: pytest.MonkeyPatch, backend: str, where: str, kind: type) -> None:
    monkeypatch.setattr(glass_rt.backends.cuda, "open_gpu", lambda _index: FakeGpu())
    manifest: Any = SimpleNamespace(engine=SimpleNamespace(backend=backend, device="cuda"))
    views = open_views(manifest, RunOptions(views=where))
    assert type(views) is kind
    views.close()


@pytest.mark.parametrize(
    ("limit", "most"), [(None, 2 << 30), (128 << 30, 2 << 30), (8 << 30, 1 << 30), (512 << 20, 64 << 20)]
)
def test_an_eighth_of_the_memory_is_pinned_at_most(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, most: int
) -> None:
    monkeypatch.setattr(pinned_views, "smallest_limit", lambda _asked: limit)
    assert most_pinned(None) == most
