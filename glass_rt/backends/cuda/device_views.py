"""Views made on the device: the image is copied there once, and our kernels write crops and global view from it.

Off by default (`Detector.open(..., views="device")`): it has run on one card so far, an H100, where each image was
copied in one piece.
"""

from __future__ import annotations

import math
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.backends.cuda.device_array import DeviceArray, whole
from glass_rt.backends.cuda.device_pixels import DevicePixels
from glass_rt.backends.cuda.gpu import DeviceBuffer, GpuDriver, PinnedBuffer, lost_is_gone
from glass_rt.backends.cuda.kept_memory import KeptMemory
from glass_rt.backends.cuda.view_kernels import ViewKernels, boxes_ltwh, filter_table
from glass_rt.errors import BackendError
from glass_rt.image.sampling import Box

SLOTS = 4  # images on their way at once
PIECE = 16 << 20  # bytes of an image in pinned memory, of which a slot has two: nothing else can have what is pinned
LARGEST_KEPT = 96_000_000  # bytes of a slot's memory on the device that are used again: an image of 32 megapixels
_IDLE_PART = 8  # of the device's memory: what packs leave, for later packs of the same size
_SIZES_PER_DOUBLING = 4  # in which arrays are allocated, or every number of rows would keep memory of its own


class DeviceViews:
    """A `glass_rt.image.views.ViewWriter` on the device. Any thread may call; it works on `SLOTS` images at a time.

    This object owns `gpu` and closes it; the engines reach the arrays through the same primary context. Raises
    BackendError, also where GPU memory is used up.
    """

    def __init__(self, gpu: GpuDriver) -> None:
        self._gpu = gpu
        self._lock = threading.Lock()
        self._slot_is_idle = threading.Condition(self._lock)
        self._closed = False
        with gpu.current(), ExitStack() as undo:
            self._memory = KeptMemory(gpu, gpu.allocate, sys.maxsize, gpu.memory()[1] // _IDLE_PART)
            self._slots = []
            for _ in range(SLOTS):
                self._slots.append(_Slot(gpu, self._memory))
                undo.callback(self._slots[-1].close)
            self._idle_slots = list(self._slots)
            self._kernels = ViewKernels(gpu)
            self._undo = undo.pop_all()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """An array of that shape with undefined content; its memory is reused once it and its slices are dropped."""
        nbytes = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
        memory = self._memory.take(_rounded_up(nbytes))
        assert memory is not None, "it has no bound but the device's"
        lease = DeviceBuffer(memory.address, nbytes)
        weakref.finalize(lease, self._memory.give_back, memory).atexit = False
        return whole(lease, shape, dtype, self._gather_rows)

    def write(
        self, pixels: NDArray[np.uint8] | DevicePixels, boxes: tuple[Box, ...], view: DeviceArray, crops: DeviceArray
    ) -> None:
        """Writes both views, of pixels that lie on the device or are copied there; they are there when this returns."""
        height, width, _ = pixels.shape
        size, table = view.shape[0], boxes_ltwh(boxes)
        with self._slot() as slot:
            rows = slot.device("rows", size * width * 3 * 4)
            if isinstance(pixels, DevicePixels):
                image = DeviceBuffer(pixels.address, height * width * 3)
            else:
                image = slot.copied_by_pieces("image", pixels)
            places = slot.copied("boxes", table)
            taps = (
                slot.copied("row taps", filter_table(height, size)),
                slot.copied("column taps", filter_table(width, size)),
            )
            self._kernels.global_view(image, width, size, taps, rows, view.address, slot.stream)
            if len(boxes):
                self._kernels.crops(image, width, places, len(boxes), size, crops.address, slot.stream)

    def close(self) -> None:
        """Frees everything on the GPU, after the images at work; callers must not read arrays that still exist."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._slot_is_idle.wait_for(lambda: len(self._idle_slots) == len(self._slots))
            with lost_is_gone(), self._gpu.current(), self._undo:
                self._memory.close()
            self._gpu.close()

    @contextmanager
    def _slot(self) -> Iterator[_Slot]:
        """A slot of this thread's own for the block, which ends when the slot's work is done.

        The block runs inside `with gpu.current():`. The slot last used comes first, so that few are grown.
        """
        with self._lock:
            self._slot_is_idle.wait_for(lambda: self._idle_slots)
            slot = self._idle_slots.pop()
        try:
            with self._gpu.current(), slot.finished():
                yield slot
        finally:
            with self._lock:
                self._idle_slots.append(slot)
                self._slot_is_idle.notify_all()

    def _gather_rows(self, source: DeviceArray, rows: Sequence[int]) -> DeviceArray:
        target = self.empty((len(rows), *source.shape[1:]), source.dtype)
        with self._slot() as slot:
            for index, row in enumerate(rows):
                self._gpu.copy_within(target[index].address, source[row].address, source.row_bytes, slot.stream)
        return target


class _Slot:
    """A stream, events and memory that grows with the images. Every method is called inside `with gpu.current():`."""

    def __init__(self, gpu: GpuDriver, packs: KeptMemory[DeviceBuffer]) -> None:
        self._gpu, self._packs = gpu, packs
        self._scratch: dict[str, DeviceBuffer | PinnedBuffer] = {}
        with ExitStack() as undo:
            self.stream = gpu.create_stream()
            undo.callback(gpu.destroy_stream, self.stream)
            events = []
            for _ in range(3):
                events.append(gpu.create_event())
                undo.callback(gpu.destroy_event, events[-1])
            self._done, *self._copied = events
            self._undo = undo.pop_all()

    @contextmanager
    def finished(self) -> Iterator[None]:
        """Sleeps at the end of the block until the stream's work is done, and raises the errors of that work.

        So it does where the block failed: what was started before would read and write memory that has another use.
        """
        try:
            yield
        except BaseException:
            with suppress(BackendError):
                self._gpu.synchronize(self.stream)
            raise
        self._gpu.record(self._done, self.stream)
        self._gpu.synchronize_event(self._done)
        self._drop_large()

    def copied_by_pieces(self, name: str, array: NDArray[Any]) -> DeviceBuffer:
        """Starts to copy an array of any size: one piece is put into pinned memory while the one before is copied."""
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        target, size = self.device(name, content.nbytes), min(PIECE, content.nbytes)
        for number, start in enumerate(range(0, content.nbytes, PIECE)):
            half, piece = number % 2, content[start : start + PIECE]
            if number >= 2:
                self._gpu.synchronize_event(self._copied[half])
            staged = self._pinned(f"{name} {half}", size).array[: piece.nbytes]
            staged[:] = piece
            self._gpu.copy_in(target.address + start, staged, self.stream)
            self._gpu.record(self._copied[half], self.stream)
        return target

    def copied(self, name: str, array: NDArray[Any]) -> DeviceBuffer:
        """Starts to copy a small array to the device by way of pinned memory."""
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
            found = self._packs.with_room(self._gpu.allocate, max(1, nbytes))
            self._scratch[f"device {name}"] = found
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

    def _drop_large(self) -> None:
        """Very large images are rare, and their memory would be held for good, four times over."""
        for name in [name for name, buffer in self._scratch.items() if buffer.nbytes > LARGEST_KEPT]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        if name in self._scratch:
            self._gpu.free(self._scratch.pop(name))


def _rounded_up(nbytes: int) -> int:
    """To one of four sizes per doubling: at most a quarter more."""
    step = max(1, (1 << (nbytes.bit_length() - 1)) // _SIZES_PER_DOUBLING)
    return -(-nbytes // step) * step
