"""The TensorRT backend's CUDA graphs and its warming up, on a GPU in memory."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from glass_rt.backends.trt.plan import TrtPlan
from glass_rt.errors import BackendError
from tests.fake_gpu import FakeGpu

MOST = 64
VERSIONS = ["tensorrt 10.3.0", "tensorrt 10.16.1", "tensorrt 11.4.0", "tensorrt_rtx 1.7.1"]


def run(backend: Any, views: Any) -> Any:
    return backend.run({"pixels": views})["embedding"]


def test_each_batch_size_is_captured_once_per_lane_and_replayed(bench: Any) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu)
    for _ in range(10):
        run(backend, bench.views(MOST))
    assert gpu.calls.count("capture") == 2
    assert gpu.calls.count("launch_graph") == 8  # two lanes warmed up by a plain run each
    backend.close()
    assert gpu.live == {}


@pytest.mark.parametrize("status", ["STREAM_CAPTURE_UNSUPPORTED", "OUT_OF_MEMORY"])
def test_a_capture_that_is_refused_costs_the_graphs_alone(
    bench: Any, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu()
    gpu.fail("capture", status)
    backend = bench.open(gpu)
    for seed in range(6):
        views = bench.views(70, seed)
        np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
    assert gpu.calls.count("capture") == 1, "it is tried once"
    assert f"runs without CUDA graphs, a little slower: capture failed: {status}" in caplog.text
    backend.close()
    assert gpu.live == {}


def test_a_library_that_runs_but_cannot_be_captured_is_run(bench: Any) -> None:
    gpu = FakeGpu()
    backend, execute = bench.open(gpu), TrtPlan.execute

    def plain_only(plan: TrtPlan, context: Any, stream: int) -> None:
        if gpu._capturing is not None:
            raise BackendError("tensorrt could not start a run")
        execute(plan, context, stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrtPlan, "execute", plain_only)
        for seed in range(6):
            views = bench.views(MOST, seed)
            np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
    backend.close()
    assert gpu.live == {}


def test_a_capture_that_loses_the_context_fails_the_engine(bench: Any) -> None:
    gpu = FakeGpu()
    gpu.fail("capture", "ILLEGAL_ADDRESS")
    backend = bench.open(gpu)
    with pytest.raises(BackendError, match="restart this process"):
        for _ in range(4):
            run(backend, bench.views(MOST))
    backend.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_warming_up_leaves_nothing_to_do_at_the_first_runs(bench: Any, version: str) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu, version)
    assert backend.warm() == 0
    prepared = dict(backend._prepared)
    assert len(prepared) == 2 * len(backend.buckets), "every batch size, on both lanes"
    if version.startswith("tensorrt_rtx"):
        assert len(list((bench.folder / "cache").iterdir())) == 1, "what it compiled is kept at once"
    else:
        assert all(one.graph is not None for one in prepared.values())
    gpu.calls.clear()
    for count in (1, 2, 3, 10, MOST, 5 * MOST):
        views = bench.views(count)
        np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
    assert not {"capture", "allocate", "allocate_pinned"} & set(gpu.calls)
    assert backend._prepared == prepared
    backend.close()
    assert gpu.live == {}


def test_warming_up_ends_in_time_and_says_what_is_left(bench: Any) -> None:
    backend = bench.open(FakeGpu())
    assert backend.warm(seconds=0) == len(backend.buckets)
    assert backend._prepared == {}
    views = bench.views(20)
    np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
    backend.close()


@pytest.mark.parametrize("failed", [False, True])
def test_graphs_go_before_their_contexts_and_these_before_the_engine(bench: Any, failed: bool) -> None:
    """A graph holds kernels of its context's modules, and an error that was raised may hold contexts."""
    gpu = FakeGpu()
    backend = bench.open(gpu)
    for _ in range(4):
        run(backend, bench.views(MOST))
    contexts = [weakref.ref(prepared.context) for prepared in backend._prepared.values()]
    alive: dict[str, list[bool]] = {"graphs": [], "plan": []}
    destroy, close = gpu.destroy_graph, backend._plan.close

    def destroyed(graph: int) -> None:
        alive["graphs"] += [context() is not None for context in contexts]
        destroy(graph)

    def closed() -> None:
        gc.collect()
        alive["plan"] += [context() is not None for context in contexts]
        close()

    gpu.destroy_graph = destroyed  # type: ignore[method-assign]
    backend._undo.push(lambda *_: closed())
    if failed:
        gpu.fail("run", "LAUNCH_FAILED_ONCE")
        with pytest.raises(BackendError):
            run(backend, bench.views(MOST))
    backend.close()
    assert alive == {"graphs": [True] * 4, "plan": [False] * 2}


def test_without_graph_capture_it_runs_all_the_same(bench: Any) -> None:
    gpu = FakeGpu(captures_graphs=False)
    backend = bench.open(gpu)
    for seed in range(4):
        views = bench.views(70, seed)
        np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
    assert "capture" not in gpu.calls
    backend.close()
