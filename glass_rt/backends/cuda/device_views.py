"""Views made on the device: the image is copied there once, and our kernels write crops and global view from it.

Off by default (`Detector.open(..., views="device")`): it has run on one card so far, an H100.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.backends.cuda.device_array import DeviceArray, whole
from glass_rt.backends.cuda.device_pixels import DevicePixels
from glass_rt.backends.cuda.gpu import DeviceBuffer, GpuDriver, PinnedBuffer, lost_is_gone
from glass_rt.backends.cuda.view_kernels import ViewKernels, boxes_ltwh, filter_table
from glass_rt.image.sampling import Box

SLOTS = 4  # images on their way at once; each takes its pixels twice, pinned and on the device


class DeviceViews:
    """A `glass_rt.image.views.ViewWriter` on the device. Any thread may call; it works on `SLOTS` images at a time.

    This object owns `gpu` and closes it; the engines reach the arrays through the same primary context. Raises
    BackendError, also where GPU memory is used up.
    """

    def __init__(self, gpu: GpuDriver) -> None:
        self._gpu = gpu
        self._lock = threading.RLock()  # a finalizer may run inside of any call
        self._slot_is_idle = threading.Condition(self._lock)
        self._idle: dict[int, list[DeviceBuffer]] = {}  # by size: packs are alike, and freeing would stop the device
        self._memory: list[DeviceBuffer] = []  # of all arrays, idle or not
        self._closed = False
        with gpu.current(), ExitStack() as undo:
            self._slots = []
            for _ in range(SLOTS):
                self._slots.append(_Slot(gpu))
                undo.callback(self._slots[-1].close)
            self._idle_slots = list(self._slots)
            self._kernels = ViewKernels(gpu)
            self._undo = undo.pop_all()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """An array of that shape with undefined content; its memory is reused once it and its slices are dropped."""
        nbytes = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        with self._lock, self._gpu.current():
            idle = self._idle.get(nbytes)
            if idle:
                memory = idle.pop()
            else:
                memory = self._gpu.allocate(nbytes)
                self._memory.append(memory)
        lease = DeviceBuffer(memory.address, nbytes)
        weakref.finalize(lease, self._give_back, memory).atexit = False
        return whole(lease, shape, dtype, self._gather_rows)

    def write(
        self, pixels: NDArray[np.uint8] | DevicePixels, boxes: tuple[Box, ...], view: DeviceArray, crops: DeviceArray
    ) -> None:
        """Writes both views, of pixels that lie on the device or are copied there; they are there when this returns."""
        height, width, _ = pixels.shape
        size, table = view.shape[0], boxes_ltwh(boxes)
        with self._slot() as slot, self._gpu.current():
            rows = slot.device("rows", size * width * 3 * 4)
            if isinstance(pixels, DevicePixels):
                image = DeviceBuffer(pixels.address, height * width * 3)
            else:
                image = slot.copied("image", pixels)
            places = slot.copied("boxes", table)
            taps = (
                slot.copied("row taps", filter_table(height, size)),
                slot.copied("column taps", filter_table(width, size)),
            )
            self._kernels.global_view(image, width, size, taps, rows, view.address, slot.stream)
            if len(boxes):
                self._kernels.crops(image, width, places, len(boxes), size, crops.address, slot.stream)
            slot.wait()

    def close(self) -> None:
        """Frees everything on the GPU, after the images at work; callers must not read arrays that still exist."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._slot_is_idle.wait_for(lambda: len(self._idle_slots) == len(self._slots))
            with lost_is_gone(), self._gpu.current(), self._undo:
                for buffer in self._memory:
                    self._gpu.free(buffer)
            self._gpu.close()

    @contextmanager
    def _slot(self) -> Iterator[_Slot]:
        """A slot of this thread's own for the block; the last used comes first, so that few are grown."""
        with self._lock:
            self._slot_is_idle.wait_for(lambda: self._idle_slots)
            slot = self._idle_slots.pop()
        try:
            yield slot
        finally:
            with self._lock:
                self._idle_slots.append(slot)
                self._slot_is_idle.notify_all()

    def _gather_rows(self, source: DeviceArray, rows: Sequence[int]) -> DeviceArray:
        target = self.empty((len(rows), *source.shape[1:]), source.dtype)
        with self._slot() as slot, self._gpu.current():
            for index, row in enumerate(rows):
                self._gpu.copy_within(target[index].address, source[row].address, source.row_bytes, slot.stream)
            slot.wait()
        return target

    def _give_back(self, memory: DeviceBuffer) -> None:
        with self._lock:
            if not self._closed:
                self._idle.setdefault(memory.nbytes, []).append(memory)


class _Slot:
    """A stream, an event and memory that grows with the images. Every method is called inside `with gpu.current():`."""

    def __init__(self, gpu: GpuDriver) -> None:
        self._gpu = gpu
        self._scratch: dict[str, DeviceBuffer | PinnedBuffer] = {}
        with ExitStack() as undo:
            self.stream = gpu.create_stream()
            undo.callback(gpu.destroy_stream, self.stream)
            self._done = gpu.create_event()
            undo.callback(gpu.destroy_event, self._done)
            self._undo = undo.pop_all()

    def wait(self) -> None:
        """Sleeps until the stream's work is done; raises the errors of that work."""
        self._gpu.record(self._done, self.stream)
        self._gpu.synchronize_event(self._done)

    def copied(self, name: str, array: NDArray[Any]) -> DeviceBuffer:
        """Starts to copy an array to the device by way of pinned memory."""
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        staging, target = self._pinned(name, content.nbytes), self.device(name, content.nbytes)
        staged = staging.array[: content.nbytes]
        staged[:] = content
        self._gpu.copy_in(target.address, staged, self.stream)
        return target

    def device(self, name: str, nbytes: int) -> DeviceBuffer:
        """Memory on the device, of any content, good until the slot's next use."""
        found = self._scratch.get(f"device {name}")
        if not isinstance(found, DeviceBuffer) or found.nbytes < nbytes:
            self._drop(f"device {name}")
            found = self._scratch[f"device {name}"] = self._gpu.allocate(max(1, nbytes))
        return found

    def close(self) -> None:
        """Frees all of it; nothing may be under way."""
        with self._undo:
            for buffer in self._scratch.values():
                self._gpu.free(buffer)

    def _pinned(self, name: str, nbytes: int) -> PinnedBuffer:
        found = self._scratch.get(f"pinned {name}")
        if not isinstance(found, PinnedBuffer) or found.array.nbytes < nbytes:
            self._drop(f"pinned {name}")
            found = self._scratch[f"pinned {name}"] = self._gpu.allocate_pinned(max(1, nbytes))
        return found

    def _drop(self, name: str) -> None:
        if name in self._scratch:
            self._gpu.free(self._scratch.pop(name))
