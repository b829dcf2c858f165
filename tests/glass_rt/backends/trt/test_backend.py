"""The TensorRT backend's scheduling and splitting, on a GPU in memory, as lazy as a real one."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from glass_rt.backends.base import Submits
from tests.fake_gpu import FakeGpu

MOST = 64
VERSIONS = ["tensorrt 10.3.0", "tensorrt 10.16.1", "tensorrt 11.4.0", "tensorrt_rtx 1.7.1"]


def run(backend: Any, views: Any) -> Any:
    return backend.run({"pixels": views})["embedding"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("count", [0, 1, 2, 10, 33, MOST, MOST + 1, 5 * MOST])
def test_packs_of_any_size_give_every_view_its_own_embedding(bench: Any, version: str, count: int) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu, version)
    for repetition in range(3):  # plain, captured, replayed
        views = bench.views(count, seed=repetition)
        np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
    backend.close()
    assert gpu.live == {}


def test_the_global_engine_takes_float32_views(bench: Any) -> None:
    backend = bench.open(FakeGpu(), role="global")
    views = bench.views(5, role="global")
    np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
    backend.close()


def test_it_can_be_left_to_itself(bench: Any) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu)
    known: object = backend
    assert isinstance(known, Submits)
    packs = [bench.views(count, seed=count) for count in (3, 70, 1, 200)]
    originals = [pack.copy() for pack in packs]
    waiting = []
    for pack in packs:
        waiting.append(backend.submit({"pixels": pack}))
        pack[:] = 0  # the caller may reuse its feeds at once
    for original, wait in reversed(list(zip(originals, waiting, strict=True))):
        np.testing.assert_allclose(wait()["embedding"], bench.expected(original), atol=0.05)
        assert wait()["embedding"].shape == (len(original), 6)  # asking twice is harmless
    backend.close()


def test_one_run_is_copied_in_before_the_one_before_has_been_waited_for(bench: Any) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu)
    gpu.calls.clear()
    wait = backend.submit({"pixels": bench.views(2 * MOST)})
    assert gpu.calls.count("copy_in") == 2
    assert "synchronize_event" not in gpu.calls, "two runs fit in flight without waiting"
    wait()
    backend.close()


def test_memory_is_allocated_once_at_the_largest_batch(bench: Any) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu)
    peak, allocations = gpu.peak_bytes, [call for call in gpu.calls if call.startswith("allocate")]
    for count in (1, 64, 300, 7):
        run(backend, bench.views(count))
    assert gpu.peak_bytes == peak
    assert [call for call in gpu.calls if call.startswith("allocate")] == allocations
    assert peak == 2 * MOST * (8 * 8 * 3 + 6 * 4) + (2 << 20)  # two lanes, and the larger profile's scratch
    backend.close()


def test_the_parts_of_a_pack_are_timed_one_after_the_other(bench: Any) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu)
    wait = backend.submit({"pixels": bench.views(20)})
    gpu.calls.clear()
    times = backend.stage_times({"pixels": bench.views(MOST + 9)})  # two runs
    order = [call for call in gpu.calls if call in ("record", "copy_in", "enqueue", "copy_out", "synchronize_event")]
    one = ["record", "copy_in", "record", "enqueue", "record", "copy_out", "record", "synchronize_event"]
    assert order == ["synchronize_event"] * 2 + 2 * one, "what was under way is waited for first"
    assert (times.copy_in, times.compute, times.copy_out) == (2.0, 2.0, 2.0)  # an event apart is a millisecond here
    assert times.stage > 0
    np.testing.assert_allclose(wait()["embedding"], bench.expected(bench.views(20)), atol=0.05)
    backend.close()
    assert gpu.live == {}


def test_two_workers_on_one_gpu(bench: Any) -> None:
    gpus = [FakeGpu(), FakeGpu()]
    backends = [bench.open(gpu) for gpu in gpus]
    failures: list[BaseException] = []

    def work(backend: Any, seed: int) -> None:
        try:
            for repetition in range(20):
                views = bench.views(1 + (seed * 31 + repetition * 17) % 150, seed + repetition)
                np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
        except BaseException as error:  # pytest does not see other threads
            failures.append(error)

    threads = [threading.Thread(target=work, args=(backend, 100 * index)) for index, backend in enumerate(backends)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for backend, gpu in zip(backends, gpus, strict=True):
        backend.close()
        assert gpu.live == {}


def test_two_workers_share_the_memory_of_one_gpu(bench: Any) -> None:
    gpu = FakeGpu()
    first, second = bench.open(gpu), bench.open(gpu)
    waits = [backend.submit({"pixels": bench.views(150, seed)}) for seed, backend in enumerate((first, second))]
    for seed, wait in enumerate(waits):
        np.testing.assert_allclose(wait()["embedding"], bench.expected(bench.views(150, seed)), atol=0.05)


def test_soak_nothing_piles_up(bench: Any, request: pytest.FixtureRequest) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu, profiles=((1, 4, 8),))
    packs = [bench.views(count, count) for count in (1, 3, 8, 20)]
    for pack in packs * 4:
        run(backend, pack)
    live, peak = gpu.live, gpu.peak_bytes
    for index in range(600):  # 10,000 on a GPU: the kit's
        run(backend, packs[index % len(packs)])
    assert gpu.live == live
    assert gpu.peak_bytes == peak
    backend.close()
    assert gpu.live == {}
