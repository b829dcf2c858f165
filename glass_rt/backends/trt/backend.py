"""Engines run by TensorRT or TensorRT for RTX on an NVIDIA GPU.

A pack of any size is cut into runs of a few batch sizes. Two lanes of buffers take turns, so that while one run
computes, the next is copied in and the one before is copied out. Each batch size is captured as a CUDA graph at its
second run. Scheduling and errors are tested on a GPU in memory, and were tried on an H100 over engines that are torch
modules (benchmarks/results/gpu_hour); no TensorRT engine has run yet.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from glass_rt.backends.base import Array, TensorSpec, check_feeds
from glass_rt.backends.cuda import GpuDriver, open_gpu
from glass_rt.backends.cuda.gpu import GpuError, GpuOutOfMemory, lost_is_gone
from glass_rt.backends.trt.buckets import Bucket, buckets_of, plan_runs
from glass_rt.backends.trt.lane import Flight, GpuLane, GpuStageTimes, Streams
from glass_rt.backends.trt.library import Library, load_library
from glass_rt.backends.trt.plan import TrtPlan
from glass_rt.bundle.checked_files import EngineFile
from glass_rt.errors import BackendError
from glass_rt.machine.cache_files import places_for, read_cached, write_cached
from glass_rt.machine.device import device_for

LANES = 2
RUNS_TO_WARM = 2  # of a batch size on a lane: the first compiles and allocates, the second is captured
WARM_SECONDS = 30.0

log = logging.getLogger("glass_rt")


def open_trt(name: str, engine: Path | EngineFile, *, device: str | None = None, cache: bool = True) -> TrtBackend:
    """Opens a plan with `tensorrt` or `tensorrt_rtx` on `cuda` or `cuda:N`.

    Raises MissingDependency, UsageError for another device, and BackendError.
    """
    index = gpu_index(device)
    library = load_library(name)
    gpu = open_gpu(index)
    try:
        return TrtBackend(engine, library, gpu, cache=cache)
    except BaseException:
        gpu.close()
        raise


def gpu_index(device: str | None) -> int:
    """`cuda:1` -> 1; None is the first GPU."""
    return device_for("tensorrt", device or "cuda").index


@dataclass(eq=False)
class _Prepared:
    """A context of one lane and batch size, and its graph from the second run on."""

    context: Any
    graph: int | None = None
    warm: bool = False


class TrtBackend:
    """A Backend on one TensorRT engine, for one worker; it takes packs of any size.

    `gpu` becomes this backend's and is closed with it. What RTX compiles for this GPU is kept in `cache/` beside the
    engine, or in the user's cache folder where that cannot be written or the bundle is pinned (see
    `glass_rt.machine.cache_files`); nowhere where `cache` is False.
    """

    def __init__(self, engine: Path | EngineFile, library: Library, gpu: GpuDriver, *, cache: bool = True) -> None:
        self._gpu, self._library = gpu, library
        self._failure: str | None = None  # not the error: its traceback would keep contexts
        self._closed = False
        self._next = 0
        self._prepared: dict[tuple[int, int], _Prepared] = {}
        with gpu.current(), ExitStack() as undo:
            source = EngineFile.of(engine)
            data = source.read()
            circumstances = f"{library.version}-sm{gpu.compute_capability}"
            self._kernels = _kernel_places(source, data, circumstances) if cache else ()
            self._captures = gpu.captures_graphs and not library.is_rtx  # RTX captures by itself
            self._plan = TrtPlan(library, data, str(source.path), read_cached(self._kernels))
            undo.callback(self._plan.close)
            self.inputs: tuple[TensorSpec, ...] = self._plan.inputs
            self.outputs: tuple[TensorSpec, ...] = self._plan.outputs
            self._dim = _fixed(self.outputs[0].shape[1])
            self._buckets = buckets_of(self._plan.profiles)
            self._allocate(undo)
            self._undo = undo.pop_all()

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The batch sizes that runs are made of."""
        return self._buckets

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the pack, in as many runs as it takes. Raises BackendError."""
        return self.submit(feeds)()

    def submit(self, feeds: Mapping[str, Array]) -> Callable[[], dict[str, Array]]:
        """Starts a pack and returns a function that waits for it; the feeds are read before this returns.

        The pixels may also be a DeviceArray of the same GPU, or an array of PinnedViews: these the GPU reads itself,
        and they stay as they are until the pack was waited for. Other engines can be started meanwhile. Callers may
        wait in any order; after `close`, waiting fails.
        """
        self._check_usable()
        check_feeds(self.inputs, feeds)
        pixels = feeds[self.inputs[0].name]
        result = np.empty((len(pixels), self._dim), np.float32)
        with self._guarded(), self._gpu.current():
            flights = [
                self._launch(pixels[run.rows_of_pack], result[run.rows_of_pack], run.bucket)
                for run in plan_runs(len(pixels), self._buckets)
            ]
        return lambda: self._finish(flights, result)

    def stage_times(self, feeds: Mapping[str, Array]) -> GpuStageTimes:
        """Runs a pack batch by batch without overlap, and measures its stages. Raises BackendError."""
        self._check_usable()
        check_feeds(self.inputs, feeds)
        pixels, total = feeds[self.inputs[0].name], GpuStageTimes()
        with self._guarded(), self._gpu.current():
            for lane in self._lanes:
                lane.land()
            for run in plan_runs(len(pixels), self._buckets):
                compute = partial(self._compute, self._prepare(0, run.bucket))
                total += self._lanes[0].timed(pixels[run.rows_of_pack], compute)
        return total

    def layers(self) -> str:
        """The engine's layers and their kernels on this GPU, as the vendor tells them (see `TrtPlan.layers`)."""
        self._check_usable()
        return self._plan.layers()

    def warm(self, seconds: float = WARM_SECONDS) -> int:
        """Runs every batch size on both lanes until all is compiled, allocated and captured, the smallest sizes first.

        Ends after about `seconds`, and returns how many sizes are left to their first use. What RTX compiled is kept
        at once: a process that is killed later has it next time. Raises BackendError.
        """
        self._check_usable()
        pixels, end = self.inputs[0], perf_counter() + seconds
        view = tuple(_fixed(size) for size in pixels.shape[1:])
        left = 0
        with self._guarded(), self._gpu.current():
            for bucket in self._buckets:
                if perf_counter() >= end:
                    left += 1
                    continue
                views = np.zeros((bucket.size, *view), pixels.dtype)
                target = np.empty((bucket.size, self._dim), np.float32)
                for _ in range(LANES * RUNS_TO_WARM):
                    self._launch(views, target, bucket)
                for lane in self._lanes:
                    lane.land()
        self._keep_cache()
        return left

    def close(self) -> None:
        """Waits for the runs under way, drops their results, and frees everything on the GPU."""
        if self._closed:
            return
        self._closed = True
        gone = BackendError("this engine was closed while a run was under way")
        with lost_is_gone(), self._gpu.current(), ExitStack() as last:
            last.callback(self._undo.close)
            self._abandon(gone)
            self._keep_cache()
            # Contexts go before their engine, and after the graphs, which hold kernels of theirs.
            last.callback(self._prepared.clear)
            for graph in [prepared.graph for prepared in self._prepared.values()]:
                if graph is not None:
                    last.callback(self._gpu.destroy_graph, graph)
        self._gpu.close()

    def _allocate(self, undo: ExitStack) -> None:
        gpu, rows = self._gpu, self._plan.profiles[-1].high
        try:
            handles = []
            for _ in range(3):
                handles.append(gpu.create_stream())
                undo.callback(gpu.destroy_stream, handles[-1])
            self._streams = Streams(*handles)
            self._scratch = gpu.allocate(max(1, self._plan.scratch_bytes))
            undo.callback(gpu.free, self._scratch)
            self._lanes = []
            for _ in range(LANES):
                lane = GpuLane(gpu, self._streams, self.inputs[0], self.outputs[0], rows)
                undo.callback(lane.close)
                self._lanes.append(lane)
        except GpuOutOfMemory as error:
            free, total = gpu.memory()
            raise BackendError(
                f"not enough GPU memory for batches of {rows}: {self._plan.scratch_bytes >> 20} MB of activations and "
                f"the buffers do not fit, {free >> 20} of {total >> 20} MB are free ({error}). Close what else uses "
                "the GPU, open fewer workers, or rebuild with a smaller --max-batch"
            ) from error

    def _launch(self, views: Array, target: Array, bucket: Bucket) -> Flight:
        index = self._next
        self._next = (index + 1) % LANES
        lane = self._lanes[index]
        lane.land()
        prepared = self._prepare(index, bucket)
        return lane.launch(views, target, lambda stream: self._compute(prepared, stream))

    def _prepare(self, index: int, bucket: Bucket) -> _Prepared:
        key = (index, bucket.size)
        if key not in self._prepared:
            lane, stream = self._lanes[index], self._streams.compute
            context = self._plan.context(bucket, lane.device_in, lane.device_out, self._scratch, stream)
            self._prepared[key] = _Prepared(context)
        return self._prepared[key]

    def _compute(self, prepared: _Prepared, stream: int) -> None:
        """With TensorRT the first run of a context warms it up, the second is captured, the others are replayed."""
        if prepared.graph is None and prepared.warm and self._captures:
            prepared.graph = self._captured(prepared, stream)
        if prepared.graph is not None:
            self._gpu.launch_graph(prepared.graph, stream)
            return
        self._plan.execute(prepared.context, stream)
        prepared.warm = True

    def _captured(self, prepared: _Prepared, stream: int) -> int | None:
        """A run as a graph. Where that is refused, None: runs are launched kernel by kernel from then on.

        NVIDIA's trtexec does the same: some layers may not be captured, and a graph takes memory of its own.
        """
        try:
            return self._gpu.capture(stream, lambda: self._plan.execute(prepared.context, stream))
        except BackendError as error:
            if isinstance(error, GpuError) and error.lost:
                raise
            self._captures = False
            log.warning("this engine runs without CUDA graphs, a little slower: %s", error)
            return None

    def _finish(self, flights: list[Flight], result: Array) -> dict[str, Array]:
        if not self._closed and not all(flight.landed or flight.error for flight in flights):
            with self._guarded(), self._gpu.current():
                for lane in self._lanes:
                    lane.land()
        for flight in flights:
            if not flight.landed:
                raise BackendError(_why(flight.error)) from flight.error
        return {self.outputs[0].name: result}

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """After a failed run the engine drops the runs under way and is not used again."""
        try:
            yield
        except BackendError as error:
            self._failure = str(error)
            self._abandon(error)
            raise

    def _abandon(self, error: BackendError) -> None:
        """Drops the runs under way once they have ended: until then the GPU reads the memory of their packs."""
        with suppress(BackendError), self._gpu.current():  # a lost device cannot be waited for
            for stream in (self._streams.copy_in, self._streams.compute, self._streams.copy_out):
                self._gpu.synchronize(stream)
        for lane in self._lanes:
            lane.abandon(error)

    def _check_usable(self) -> None:
        if self._closed:
            raise BackendError("this engine is closed; open the bundle again")
        if self._failure is not None:
            raise BackendError(f"this engine failed before and must be opened again: {self._failure}")

    def _keep_cache(self) -> None:
        with suppress(BackendError):
            data = None if self._failure else self._plan.runtime_cache()
            if data and data != read_cached(self._kernels):
                write_cached(data, self._kernels)


def _kernel_places(source: EngineFile, data: bytes, circumstances: str) -> tuple[Path, ...]:
    """Beside the engine, or in the user's cache under the engine's SHA-256."""
    own = ("kernels", f"{hashlib.sha256(data).hexdigest()}-{circumstances}.kernels")
    return places_for(source.path.parent, f"{source.path.stem}-{circumstances}.kernels", own, pinned=source.pinned)


def _why(error: BaseException | None) -> str:
    return str(error or "") or "the run was interrupted"


def _fixed(size: int | None) -> int:
    if size is None:
        raise BackendError("the engine leaves a size of its views or embeddings open; export the model again")
    return size
