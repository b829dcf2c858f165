"""One batch on its way through the GPU: staging memory, device memory, and the events that order its three streams.

A backend has two lanes, so that one batch is copied while the other computes. All memory is allocated once, for the
largest batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.backends.base import Array, TensorSpec
from glass_rt.backends.cuda.device_array import DeviceArray
from glass_rt.backends.cuda.gpu import Bytes, GpuDriver
from glass_rt.backends.cuda.pinned_views import is_pinned


@dataclass(frozen=True)
class Streams:
    """The three streams: of copies in, of computing and of copies out."""

    copy_in: int
    compute: int
    copy_out: int


@dataclass(frozen=True)
class GpuStageTimes:
    """Milliseconds of one batch's stages, run one after the other; added up over the batches of a pack.

    `stage` is the host's copy into pinned memory, by its own clock, and next to nothing for views that lie there; the
    others are the device's.
    """

    stage: float = 0.0
    copy_in: float = 0.0
    compute: float = 0.0
    copy_out: float = 0.0

    def __add__(self, other: GpuStageTimes) -> GpuStageTimes:
        return GpuStageTimes(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


@dataclass(eq=False)
class Flight:
    """Rows under way: the array that receives them, and the error where they failed."""

    target: NDArray[np.float32]
    views: Any  # memory that the device reads later must not be used for something else before
    error: BaseException | None = None
    landed: bool = False


class GpuLane:
    """Buffers for one batch of at most `rows` views. Every method is called inside `with gpu.current():`."""

    def __init__(self, gpu: GpuDriver, streams: Streams, pixels: TensorSpec, embedding: TensorSpec, rows: int) -> None:
        self._gpu, self._streams = gpu, streams
        self._row_in, self._row_out = _row_bytes(pixels), _row_bytes(embedding)
        self._flight: Flight | None = None
        with ExitStack() as undo:
            self.device_in = gpu.allocate(rows * self._row_in)
            undo.callback(gpu.free, self.device_in)
            self.device_out = gpu.allocate(rows * self._row_out)
            undo.callback(gpu.free, self.device_out)
            self._host_in = gpu.allocate_pinned(rows * self._row_in)
            undo.callback(gpu.free, self._host_in)
            self._host_out = gpu.allocate_pinned(rows * self._row_out)
            undo.callback(gpu.free, self._host_out)
            events = []
            for _ in range(3):
                events.append(gpu.create_event())
                undo.callback(gpu.destroy_event, events[-1])
            self._arrived, self._computed, self._left = events
            self._undo = undo.pop_all()

    def launch(self, views: Array | DeviceArray, target: NDArray[np.float32], compute: Callable[[int], None]) -> Flight:
        """Copies `views` in, has `compute(stream)` put the batch on the compute stream, and copies the result out.

        Returns at once. `views` (rows, ...) is copied to the staging memory before, unless it is on the device or in
        pinned memory, where it is read later; `target` (rows, D) is written by `land`. The lane must be free.
        """
        assert self._flight is None, "land comes before the next launch"
        gpu, streams = self._gpu, self._streams
        if isinstance(views, DeviceArray):
            gpu.copy_within(self.device_in.address, views.address, views.nbytes, streams.copy_in)
        else:
            gpu.copy_in(self.device_in.address, self._in_pinned_memory(views), streams.copy_in)
        gpu.record(self._arrived, streams.copy_in)
        gpu.wait(streams.compute, self._arrived)
        compute(streams.compute)
        gpu.record(self._computed, streams.compute)
        gpu.wait(streams.copy_out, self._computed)
        gpu.copy_out(self._host_out.array[: len(views) * self._row_out], self.device_out.address, streams.copy_out)
        gpu.record(self._left, streams.copy_out)
        self._flight = Flight(target, views)
        return self._flight

    def timed(self, views: Array, compute: Callable[[int], None]) -> GpuStageTimes:
        """Measures the stages of `launch` by events on a single stream, with nothing else under way."""
        assert self._flight is None, "the lane is in use"
        gpu, stream = self._gpu, self._streams.compute
        with ExitStack() as undo:
            events = []
            for _ in range(4):
                events.append(gpu.create_event(timed=True))
                undo.callback(gpu.destroy_event, events[-1])
            start = perf_counter()
            staged_in = self._in_pinned_memory(views)
            stage_ms = (perf_counter() - start) * 1e3
            gpu.record(events[0], stream)
            gpu.copy_in(self.device_in.address, staged_in, stream)
            gpu.record(events[1], stream)
            compute(stream)
            gpu.record(events[2], stream)
            gpu.copy_out(self._host_out.array[: len(views) * self._row_out], self.device_out.address, stream)
            gpu.record(events[3], stream)
            gpu.synchronize_event(events[3])
            return GpuStageTimes(stage_ms, *(gpu.elapsed_ms(*pair) for pair in pairwise(events)))

    def _in_pinned_memory(self, views: Array) -> Bytes:
        """The views where they are, if they are pinned already, or copied to the staging memory."""
        if is_pinned(views):
            return views.reshape(-1).view(np.uint8)
        staged = self._host_in.array[: len(views) * self._row_in]
        staged[:] = np.ascontiguousarray(views).reshape(-1).view(np.uint8)
        return staged

    def land(self) -> None:
        """Waits for the batch under way, if any, and writes its rows to their target."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        try:
            self._gpu.synchronize_event(self._left)
        except BaseException as error:  # Ctrl-C too: the rows may be another pack's, which is waited for later
            flight.error = error
            raise
        staged = self._host_out.array[: flight.target.nbytes]
        flight.target[...] = staged.view(np.float32).reshape(flight.target.shape)
        flight.landed = True

    def abandon(self, error: Exception) -> None:
        """Drops the batch under way, if any: waiting for it raises `error`."""
        if self._flight is not None:
            self._flight.error = error
            self._flight = None

    def close(self) -> None:
        """Frees the buffers; nothing may be under way."""
        self._undo.close()


def _row_bytes(spec: TensorSpec) -> int:
    sizes = [size for size in spec.shape[1:] if size is not None]
    return int(np.prod(sizes)) * spec.dtype.itemsize
