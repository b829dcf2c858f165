"""The GPU through NVIDIA's own Python packages (cuda-core and the driver bindings that belong to it).

It uses the driver's calls, whose names are unchanged since CUDA 11, and not cuda-core's objects, which still change. It
runs in tests against a stand-in for the driver, and has run on an H100 (benchmarks/results/gpu_hour).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from cuda.bindings import driver

from glass_rt.backends.cuda.gpu import Bytes, DeviceBuffer, PinnedBuffer, gpu_error, lost_is_gone
from glass_rt.errors import BackendError
from glass_rt.machine.cuda_driver import does_not_start


class BindingsGpu:
    """A GpuDriver on the driver bindings."""

    captures_graphs = True

    def __init__(self, index: int = 0) -> None:
        _start_driver()
        count = _checked("cuDeviceGetCount", driver.cuDeviceGetCount())
        if index >= count:
            raise BackendError(f"device: cuda:{index} is not there; this machine has {count} NVIDIA GPU(s)")
        self._device = _checked("cuDeviceGet", driver.cuDeviceGet(index))
        attribute = driver.CUdevice_attribute
        major, minor = (
            _checked("cuDeviceGetAttribute", driver.cuDeviceGetAttribute(item, self._device))
            for item in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        self.compute_capability = f"{major}.{minor}"
        name = _checked("cuDeviceGetName", driver.cuDeviceGetName(256, self._device))
        self.name = name.split(b"\0", 1)[0].decode()
        self._modules: list[Any] = []
        self._context = _retained(self._device)  # last: what fails above holds no context

    @contextmanager
    def current(self) -> Iterator[None]:
        _checked("cuCtxPushCurrent", driver.cuCtxPushCurrent(self._context))
        try:
            yield
        finally:
            _checked("cuCtxPopCurrent", driver.cuCtxPopCurrent())

    def memory(self) -> tuple[int, int]:
        free, total = _checked("cuMemGetInfo", driver.cuMemGetInfo())
        return int(free), int(total)

    def allocate(self, nbytes: int) -> DeviceBuffer:
        return DeviceBuffer(int(_checked("cuMemAlloc", driver.cuMemAlloc(nbytes))), nbytes)

    def allocate_pinned(self, nbytes: int) -> PinnedBuffer:
        address = int(_checked("cuMemAllocHost", driver.cuMemAllocHost(nbytes)))
        view = (ctypes.c_uint8 * nbytes).from_address(address)
        return PinnedBuffer(np.ctypeslib.as_array(view), owner=address)

    def free(self, buffer: DeviceBuffer | PinnedBuffer) -> None:
        if isinstance(buffer, DeviceBuffer):
            _checked("cuMemFree", driver.cuMemFree(buffer.address))
        else:
            _checked("cuMemFreeHost", driver.cuMemFreeHost(buffer.owner))

    def create_stream(self) -> int:
        return int(_checked("cuStreamCreate", driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)))

    def destroy_stream(self, stream: int) -> None:
        _checked("cuStreamDestroy", driver.cuStreamDestroy(stream))

    def synchronize(self, stream: int) -> None:
        _checked("cuStreamSynchronize", driver.cuStreamSynchronize(stream))

    def create_event(self, *, timed: bool = False) -> int:
        kinds = driver.CUevent_flags
        sleeping = kinds.CU_EVENT_BLOCKING_SYNC | kinds.CU_EVENT_DISABLE_TIMING  # the default spins, and takes a core
        return int(_checked("cuEventCreate", driver.cuEventCreate(kinds.CU_EVENT_DEFAULT if timed else sleeping)))

    def destroy_event(self, event: int) -> None:
        _checked("cuEventDestroy", driver.cuEventDestroy(event))

    def record(self, event: int, stream: int) -> None:
        _checked("cuEventRecord", driver.cuEventRecord(event, stream))

    def wait(self, stream: int, event: int) -> None:
        _checked("cuStreamWaitEvent", driver.cuStreamWaitEvent(stream, event, 0))

    def synchronize_event(self, event: int) -> None:
        _checked("cuEventSynchronize", driver.cuEventSynchronize(event))

    def elapsed_ms(self, start: int, end: int) -> float:
        try:
            found = driver.cuEventElapsedTime(start, end)
        except RuntimeError as error:  # the bindings know the call by a name that came with the driver of CUDA 12.8
            raise BackendError(
                f"this NVIDIA driver is too old for the installed cuda-bindings, which need that of CUDA 12.8 (570) or "
                f"newer ({error}): update the driver"
            ) from error
        return float(_checked("cuEventElapsedTime", found))

    def copy_in(self, address: int, source: Bytes, stream: int) -> None:
        result = driver.cuMemcpyHtoDAsync(address, source.ctypes.data, source.nbytes, stream)
        _checked("cuMemcpyHtoDAsync", result)

    def copy_out(self, target: Bytes, address: int, stream: int) -> None:
        result = driver.cuMemcpyDtoHAsync(target.ctypes.data, address, target.nbytes, stream)
        _checked("cuMemcpyDtoHAsync", result)

    def copy_within(self, target: int, source: int, nbytes: int, stream: int) -> None:
        _checked("cuMemcpyDtoDAsync", driver.cuMemcpyDtoDAsync(target, source, nbytes, stream))

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL  # other workers go on meanwhile
        _checked("cuStreamBeginCapture", driver.cuStreamBeginCapture(stream, mode))
        try:
            work()
        except BaseException:
            status, unwanted = driver.cuStreamEndCapture(stream)
            if status == driver.CUresult.CUDA_SUCCESS:
                driver.cuGraphDestroy(unwanted)
            raise
        graph = _checked("cuStreamEndCapture", driver.cuStreamEndCapture(stream))
        try:
            return int(_checked("cuGraphInstantiate", driver.cuGraphInstantiate(graph, 0)))
        finally:
            _checked("cuGraphDestroy", driver.cuGraphDestroy(graph))

    def launch_graph(self, graph: int, stream: int) -> None:
        _checked("cuGraphLaunch", driver.cuGraphLaunch(graph, stream))

    def destroy_graph(self, graph: int) -> None:
        _checked("cuGraphExecDestroy", driver.cuGraphExecDestroy(graph))

    def load_kernel(self, image: bytes, name: str) -> Any:
        module = _checked("cuModuleLoadData", driver.cuModuleLoadData(image))
        self._modules.append(module)
        return _checked("cuModuleGetFunction", driver.cuModuleGetFunction(module, name.encode()))

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: tuple[Any, ...],
        stream: int,
    ) -> None:  # fmt: skip
        cells = [np.array(argument) for argument in arguments]
        addresses = np.array([cell.ctypes.data for cell in cells], np.uint64)
        _checked(
            "cuLaunchKernel",
            driver.cuLaunchKernel(kernel, *grid, *block, 0, stream, addresses.ctypes.data, 0),
        )

    def close(self) -> None:
        if self._context is None:
            return
        with lost_is_gone(), self.current():
            for module in self._modules:
                driver.cuModuleUnload(module)
        self._context = None
        with lost_is_gone():
            _checked("cuDevicePrimaryCtxRelease", driver.cuDevicePrimaryCtxRelease(self._device))


def _start_driver() -> None:
    try:
        (status,) = driver.cuInit(0)
    except RuntimeError as error:  # the bindings found no driver
        raise BackendError(f"no NVIDIA driver is installed ({error}); nvidia-smi must list the GPU") from error
    if status != driver.CUresult.CUDA_SUCCESS:
        raise BackendError(does_not_start(status.name.removeprefix("CUDA_ERROR_")))


def _retained(device: Any) -> Any:
    """The device's primary context."""
    status, context = driver.cuDevicePrimaryCtxRetain(device)
    if status == driver.CUresult.CUDA_ERROR_DEVICE_UNAVAILABLE:
        raise BackendError(
            "the GPU is not available: another process has it for itself, or it admits none (nvidia-smi -q -d COMPUTE "
            "shows its compute mode)"
        )
    return _checked("cuDevicePrimaryCtxRetain", (status, context))


def _checked(call: str, result: tuple[Any, ...]) -> Any:
    """The values behind a driver call's status."""
    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise gpu_error(call, status.name)
    return values[0] if len(values) == 1 else tuple(values)
