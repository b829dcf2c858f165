"""The GPU through pycuda, which Jetsons have: everything but graph capture.

`pycuda.autoinit` makes a context of its own, which collides with those of torch and ONNX Runtime in one process. So
this module retains the primary context, and pushes and pops it in each thread. It has not run on a GPU: it ran against
a stand-in for the driver, and there pycuda left the released context current in the thread that closed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pycuda.driver as driver

from glass_rt.backends.cuda.gpu import Bytes, DeviceBuffer, GpuError, PinnedBuffer, gpu_error, lost_is_gone
from glass_rt.errors import BackendError
from glass_rt.machine.cuda_driver import why_not_started


class PycudaGpu:
    """A GpuDriver on pycuda."""

    captures_graphs = False

    def __init__(self, index: int = 0) -> None:
        if (reason := why_not_started()) is not None:
            raise BackendError(reason)
        with _explained("cuInit", in_context=False):
            driver.init()
            count = driver.Device.count()
        if index >= count:
            raise BackendError(f"device: cuda:{index} is not there; this machine has {count} NVIDIA GPU(s)")
        with _explained("cuDevicePrimaryCtxRetain", in_context=False):
            device = driver.Device(index)
            self.name: str = device.name()
            self.compute_capability = ".".join(map(str, device.compute_capability()))
            self._context: Any = device.retain_primary_context()
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        self._modules: list[Any] = []

    @contextmanager
    def current(self) -> Iterator[None]:
        with _explained("cuCtxPushCurrent"):
            self._context.push()
        try:
            yield
        finally:
            with _explained("cuCtxPopCurrent"):
                driver.Context.pop()

    def memory(self) -> tuple[int, int]:
        with _explained("cuMemGetInfo"):
            free, total = driver.mem_get_info()
        return int(free), int(total)

    def allocate(self, nbytes: int) -> DeviceBuffer:
        with _explained("cuMemAlloc"):
            owner = driver.mem_alloc(nbytes)
        return DeviceBuffer(int(owner), nbytes, owner)

    def allocate_pinned(self, nbytes: int) -> PinnedBuffer:
        with _explained("cuMemHostAlloc"):
            array = driver.pagelocked_empty(nbytes, np.uint8)
        return PinnedBuffer(array, array.base)

    def free(self, buffer: DeviceBuffer | PinnedBuffer) -> None:
        with _explained("cuMemFree"):
            buffer.owner.free()

    def create_stream(self) -> int:
        with _explained("cuStreamCreate"):
            stream = driver.Stream(flags=1)  # CU_STREAM_NON_BLOCKING
        self._streams[stream.handle] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        self._streams.pop(stream)

    def synchronize(self, stream: int) -> None:
        with _explained("cuStreamSynchronize"):
            self._streams[stream].synchronize()

    def create_event(self, *, timed: bool = False) -> int:
        kinds = driver.event_flags
        with _explained("cuEventCreate"):
            event = driver.Event(kinds.DEFAULT if timed else kinds.BLOCKING_SYNC | kinds.DISABLE_TIMING)
        self._events[id(event)] = event
        return id(event)

    def destroy_event(self, event: int) -> None:
        self._events.pop(event)

    def record(self, event: int, stream: int) -> None:
        with _explained("cuEventRecord"):
            self._events[event].record(self._streams[stream])

    def wait(self, stream: int, event: int) -> None:
        with _explained("cuStreamWaitEvent"):
            self._streams[stream].wait_for_event(self._events[event])

    def synchronize_event(self, event: int) -> None:
        with _explained("cuEventSynchronize"):
            self._events[event].synchronize()

    def elapsed_ms(self, start: int, end: int) -> float:
        with _explained("cuEventElapsedTime"):
            return float(self._events[end].time_since(self._events[start]))

    def copy_in(self, address: int, source: Bytes, stream: int) -> None:
        with _explained("cuMemcpyHtoDAsync"):
            driver.memcpy_htod_async(address, source, self._streams[stream])

    def copy_out(self, target: Bytes, address: int, stream: int) -> None:
        with _explained("cuMemcpyDtoHAsync"):
            driver.memcpy_dtoh_async(target, address, self._streams[stream])

    def copy_within(self, target: int, source: int, nbytes: int, stream: int) -> None:
        with _explained("cuMemcpyDtoDAsync"):
            driver.memcpy_dtod_async(target, source, nbytes, self._streams[stream])

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Raises BackendError: pycuda captures no graphs."""
        raise BackendError("pycuda captures no graphs; install cuda-core: pip install 'glass-rt[cuda]'")

    def launch_graph(self, graph: int, stream: int) -> None:
        """Raises BackendError: pycuda captures no graphs."""
        raise BackendError("pycuda captures no graphs; install cuda-core: pip install 'glass-rt[cuda]'")

    def destroy_graph(self, graph: int) -> None:
        """Does nothing: pycuda captures no graphs."""

    def load_kernel(self, image: bytes, name: str) -> Any:
        with _explained("cuModuleLoadData"):
            module = driver.module_from_buffer(image)
            self._modules.append(module)
            return module.get_function(name)

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: tuple[Any, ...],
        stream: int,
    ) -> None:  # fmt: skip
        with _explained("cuLaunchKernel"):
            kernel(*arguments, grid=grid, block=block, stream=self._streams[stream])

    def close(self) -> None:
        context = self._context
        if context is None:
            return
        with lost_is_gone(), self.current():
            self._modules.clear()
            self._streams.clear()
            self._events.clear()
        self._context = None
        with lost_is_gone(), _explained("cuDevicePrimaryCtxRelease"):
            context.detach()


@contextmanager
def _explained(call: str, *, in_context: bool = True) -> Iterator[None]:
    """Raises pycuda's errors as GpuError. They carry the driver's sentence, which varies between drivers, and no code.

    So this asks the driver whether the context is lost: a lost context fails every other call too.
    """
    try:
        yield
    except driver.MemoryError as error:
        raise gpu_error(call, "OUT_OF_MEMORY") from error
    except driver.Error as error:
        text = str(error).rsplit("failed: ", 1)[-1]
        raise GpuError(call, text, lost=in_context and _context_is_lost()) from error


def _context_is_lost() -> bool:
    try:
        driver.mem_get_info()
    except driver.Error:
        return True
    return False
