"""The TensorRT backend's errors: nothing leaks, and who waits is told; on a GPU in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glass_rt.backends.trt.backend import TrtBackend
from glass_rt.errors import BackendError
from tests.fake_gpu import FakeGpu

MOST = 64


def run(backend: Any, views: Any) -> Any:
    return backend.run({"pixels": views})["embedding"]


@pytest.mark.parametrize("call", ["allocate", "allocate_pinned", "create_stream", "create_event"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_failing_allocation_says_what_to_do_and_leaks_nothing(bench: Any, call: str, after: int) -> None:
    gpu = FakeGpu()
    gpu.fail(call, "CUDA_ERROR_OUT_OF_MEMORY", after)
    with pytest.raises(BackendError, match=r"not enough GPU memory for batches of 64.*smaller --max-batch"):
        bench.open(gpu)
    assert gpu.live == {}


def test_a_gpu_too_small_says_how_much_is_free(bench: Any) -> None:
    gpu = FakeGpu(memory_bytes=1 << 20)
    with pytest.raises(BackendError, match=r"2 MB of activations.*1 of 1 MB are free"):
        bench.open(gpu)
    assert gpu.live == {}


@pytest.mark.parametrize("after", [0, 1, 2, 3])  # plain runs of both lanes, then their captures
def test_a_failing_launch_fails_the_pack_and_the_engine(bench: Any, after: int) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu)
    bench.faults["refuse_run"] = after
    with pytest.raises(BackendError, match="something about cudnn"):
        run(backend, bench.views(8 * MOST))
    with pytest.raises(BackendError, match=r"(?s)failed before and must be opened again.*cudnn"):
        run(backend, bench.views(1))
    backend.close()
    assert gpu.live == {}


def test_work_that_fails_on_the_gpu_fails_when_it_is_waited_for(bench: Any) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu)
    gpu.fail("run", "CUDA_ERROR_ILLEGAL_ADDRESS", after=2)
    first = backend.submit({"pixels": bench.views(3)})
    second = backend.submit({"pixels": bench.views(3)})
    with pytest.raises(BackendError, match=r"ILLEGAL_ADDRESS; the GPU's context is lost: restart this process"):
        first()
    with pytest.raises(BackendError, match="ILLEGAL_ADDRESS"):
        second()
    backend.close()  # a lost device answers no call; closing still ends
    assert gpu.live == {}


def test_rows_whose_wait_was_interrupted_are_an_error_and_no_numbers(bench: Any) -> None:
    """Ctrl-C in one thread's wait, on a lane with the rows of another thread's pack."""
    gpu = FakeGpu()
    backend = bench.open(gpu)
    views = bench.views(3)
    interrupted = backend.submit({"pixels": views})
    synchronize = gpu.synchronize_event

    def interrupt(event: int) -> None:
        gpu.synchronize_event = synchronize  # type: ignore[method-assign]
        raise KeyboardInterrupt

    gpu.synchronize_event = interrupt  # type: ignore[method-assign]
    waiting = backend.submit({"pixels": views})
    with pytest.raises(KeyboardInterrupt):
        waiting()
    with pytest.raises(BackendError, match="the run was interrupted"):
        interrupted()
    np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
    backend.close()
    assert gpu.live == {}


def test_a_failed_engine_reads_no_pack_any_more(bench: Any) -> None:
    """The memory of its packs goes to others, and may be freed."""
    gpu = FakeGpu()
    backend = bench.open(gpu)
    backend.submit({"pixels": bench.views(3)})
    bench.faults["refuse_run"] = 0
    with pytest.raises(BackendError, match="something about cudnn"):
        run(backend, bench.views(3))
    assert not any(gpu._streams.values()), "what was under way was waited for"
    backend.close()


def test_closing_while_in_flight_frees_all_and_fails_those_who_wait(bench: Any) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu)
    wait = backend.submit({"pixels": bench.views(MOST)})
    backend.close()
    assert gpu.live == {}
    assert gpu.closed
    with pytest.raises(BackendError, match="closed while a run was under way"):
        wait()
    with pytest.raises(BackendError, match="this engine is closed"):
        run(backend, bench.views(1))
    backend.close()  # twice is harmless


def test_a_result_that_was_there_before_closing_stays(bench: Any) -> None:
    backend = bench.open(FakeGpu())
    views = bench.views(5)
    wait = backend.submit({"pixels": views})
    wait()
    backend.close()
    np.testing.assert_allclose(wait()["embedding"], bench.expected(views), atol=0.05)


def test_a_plan_that_is_none_fails_with_the_vendors_words(bench: Any) -> None:
    path, again = bench.folder / "local.plan", FakeGpu()
    library = bench.library("tensorrt 11.4.0", again)
    path.write_bytes(b"not a plan")
    with pytest.raises(BackendError, match=r"cannot open .*local\.plan\n  tensorrt: .*magic tag does not match"):
        TrtBackend(path, library, again)
    assert again.live == {}


def test_a_context_that_is_refused_is_an_error(bench: Any) -> None:
    backend = bench.open(FakeGpu())
    bench.faults["refuse_context"] = True
    with pytest.raises(BackendError, match="cannot make an execution context for batches of 4"):
        run(backend, bench.views(4))


def test_wrong_feeds_are_refused_before_the_gpu_sees_them(bench: Any) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu)
    gpu.calls.clear()
    with pytest.raises(BackendError, match=r"this engine takes pixels \(N, 8, 8, 3\) uint8"):
        run(backend, np.zeros((2, 9, 8, 3), np.uint8))
    assert gpu.calls == []
    backend.close()
