"""The TensorRT backend's scheduling, splitting and errors, on a GPU in memory, as lazy as a real one."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from glass_rt.backends.base import Submits
from glass_rt.backends.trt.backend import TrtBackend
from glass_rt.backends.trt.plan import TrtPlan
from glass_rt.bundle.checked_files import CheckedFiles, EngineFile
from glass_rt.bundle.folder import sha256_of
from glass_rt.bundle.manifest import FileEntry
from glass_rt.errors import BackendError, BundleInvalid
from glass_rt.machine.cache_files import CACHE_VARIABLE, read_cached
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


def test_rtx_captures_by_itself_and_keeps_what_it_compiled(bench: Any) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu, "tensorrt_rtx 1.7.1")
    for _ in range(4):
        run(backend, bench.views(MOST))
    assert "capture" not in gpu.calls
    backend.close()
    (file,) = (bench.folder / "cache").iterdir()
    assert read_cached([file]) == b"compiled for this GPU"
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert bench.faults.pop("cache read") == b"compiled for this GPU"
    file.chmod(0o666)  # another user could have put code there
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert "cache read" not in bench.faults


def test_under_a_pin_what_lies_in_the_bundles_cache_is_not_read(
    bench: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path_factory.mktemp("mine")
    monkeypatch.setenv(CACHE_VARIABLE, str(mine))
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    (beside,) = (bench.folder / "cache").iterdir()
    path = bench.folder / "local.plan"
    entries = {path.name: FileEntry(path.stat().st_size, sha256_of(path))}

    def open_pinned() -> None:
        engine = EngineFile(path, CheckedFiles(bench.folder, entries, pinned=True), path.name)
        gpu = FakeGpu()
        TrtBackend(engine, bench.library("tensorrt_rtx 1.7.1", gpu), gpu).close()

    open_pinned()
    assert "cache read" not in bench.faults
    (own,) = (mine / "kernels").iterdir()
    beside.unlink()
    open_pinned()
    assert bench.faults.pop("cache read") == b"compiled for this GPU"
    assert own.stat().st_mode & 0o077 == 0
    assert list((bench.folder / "cache").iterdir()) == []
    path.write_bytes(path.read_bytes().replace(b"16", b"17"))
    with pytest.raises(BundleInvalid, match=r"local\.plan was altered"):
        open_pinned()


def test_what_was_compiled_and_damaged_is_compiled_again(bench: Any) -> None:
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    (file,) = (bench.folder / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert "cache read" not in bench.faults
    assert read_cached([file]) == b"compiled for this GPU"


def test_beside_a_bundle_that_cannot_be_written_the_users_cache_is_used(
    bench: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path_factory.mktemp("mine")
    monkeypatch.setenv(CACHE_VARIABLE, str(mine))
    (bench.folder / "cache").write_bytes(b"")  # a file in place of the folder: even root cannot write there
    monkeypatch.setattr("os.access", lambda *_: False)
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    (file,) = (mine / "kernels").iterdir()
    assert read_cached([file]) == b"compiled for this GPU"
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert bench.faults.pop("cache read") == b"compiled for this GPU"
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1", profiles=((1, 10, 16),)).close()
    assert "cache read" not in bench.faults, "another engine's kernels are not this one's"


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


@pytest.mark.parametrize("close_at_once", [False, True])
def test_a_cache_that_the_library_does_not_hand_over_costs_the_cache_alone(bench: Any, close_at_once: bool) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu, "tensorrt_rtx 1.7.1")
    bench.faults["refuse cache"] = True
    if not close_at_once:
        assert backend.warm() == 0
        views = bench.views(5)
        np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
    backend.close()
    assert gpu.live == {}
    assert gpu.closed
    assert not (bench.folder / "cache").exists()


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


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (1, "VERSION_MISMATCH): build it again"), (2, "UNSUPPORTED_CC): build it with"), (4, "OLD_CUDA_DRIVER): update"),
        (8, "OLD_CUDA_RUNTIME): update"), (16, "INSUFFICIENT_GPU_MEMORY): build it with a smaller --max-batch"),
        (32, "MALFORMED_ENGINE): build"), (64, "CUDA_ERROR): see"), (6, "UNSUPPORTED_CC): build it with --backend tensorrt; the NVIDIA driver"),
    ],
)  # fmt: skip
def test_rtx_is_asked_whether_it_can_run_a_plan_before_it_reads_it(bench: Any, found: int, words: str) -> None:
    bench.faults["diagnosis"] = found
    with pytest.raises(BackendError, match=r"cannot run .*local\.plan here: ") as caught:
        bench.open(FakeGpu(), "tensorrt_rtx 1.7.1")
    assert words in str(caught.value)


def test_an_engine_that_might_be_faster_runs_and_a_line_says_so(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.faults["validity"] = "SUBOPTIMAL"
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert "not as fast as it might" in caplog.text


def test_rtx_compiles_a_shapes_kernels_before_its_first_run(bench: Any) -> None:
    """Else the parity gate would judge the general kernels, and later runs would use others."""
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert bench.faults["specialisation"] == "EAGER"


def test_what_the_library_warns_of_is_logged_although_all_goes_well(
    bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    library = bench.library("tensorrt 11.4.0", FakeGpu())
    with library.explained(BackendError, "nothing goes wrong"):
        library.logger.log(2, "Using an engine plan file across different models of devices is not supported")
    assert "tensorrt: Using an engine plan file across different models" in caplog.text
