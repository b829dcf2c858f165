"""The GPU calls that engines need. Two libraries implement them; a fake in memory implements them for tests.

Work is ordered by streams: calls return at once and errors may come out of a later call. Handles are integers, as the
driver and the inference libraries exchange them. Every call is made inside `with gpu.current():`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import BackendError

Bytes = NDArray[np.uint8]


class GpuError(BackendError):
    """The driver refused a call. `status`: the CUresult's name, or what the library says in its place.

    `lost`: the context is broken, and every further call will fail too.
    """

    kind = "gpu"

    def __init__(self, call: str, status: str, *, lost: bool = False) -> None:
        remedy = "; the GPU's context is lost: restart this process" if lost else ""
        super().__init__(f"{call} failed: {status}{remedy}")
        self.status, self.lost = status, lost


class GpuOutOfMemory(GpuError):
    """The device's memory or the pinned host memory is used up."""

    kind = "gpu_memory"


# Results after which every call of a CUDA context fails (CUDA driver API, CUresult): those that leave the process "in
# an inconsistent state", errors of the memory and of links between GPUs, and contexts or drivers that are gone.
LOST = frozenset(
    ("ILLEGAL_ADDRESS", "LAUNCH_FAILED", "LAUNCH_TIMEOUT", "HARDWARE_STACK_ERROR", "ILLEGAL_INSTRUCTION",
     "MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE", "INVALID_PC", "ECC_UNCORRECTABLE", "NVLINK_UNCORRECTABLE",
     "CONTAINED", "TENSOR_MEMORY_LEAK", "CONTEXT_IS_DESTROYED", "DEINITIALIZED", "ASSERT", "EXTERNAL_DEVICE",
     "MPS_CLIENT_TERMINATED")
)  # fmt: skip


def gpu_error(call: str, status: str) -> GpuError:
    """The error for a CUresult's name, with or without `CUDA_ERROR_` in front."""
    name = status.rsplit("CUDA_ERROR_", 1)[-1]
    if name.startswith("OUT_OF_MEMORY"):
        return GpuOutOfMemory(call, name)
    return GpuError(call, name, lost=name in LOST)


@contextmanager
def lost_is_gone() -> Iterator[None]:
    """For closing: what a lost context held is the driver's to clear away, and it answers no call to free it."""
    try:
        yield
    except GpuError as error:
        if not error.lost:
            raise


@dataclass(frozen=True, eq=False)
class DeviceBuffer:
    """Memory on the device; `owner` is the library's object, which this keeps alive."""

    address: int
    nbytes: int
    owner: Any = None


@dataclass(frozen=True, eq=False)
class PinnedBuffer:
    """Page-locked host memory, which the device copies from and to directly. `array` views it, uint8 (nbytes,)."""

    array: Bytes
    owner: Any = None

    @property
    def nbytes(self) -> int:
        """Its size."""
        return int(self.array.nbytes)


class GpuDriver(Protocol):
    """One device, through its primary context, which torch and ONNX Runtime use too."""

    @property
    def name(self) -> str:
        """The driver's name for the device."""

    @property
    def compute_capability(self) -> str:
        """Like `8.9`."""

    @property
    def captures_graphs(self) -> bool:
        """Whether `capture` works."""

    def current(self) -> AbstractContextManager[None]:
        """Makes the context this thread's current one for the block, and restores the former one."""

    def memory(self) -> tuple[int, int]:
        """Free and total bytes on the device."""

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """Allocates device memory; raises GpuOutOfMemory."""

    def allocate_pinned(self, nbytes: int) -> PinnedBuffer:
        """Allocates page-locked host memory; raises GpuOutOfMemory."""

    def free(self, buffer: DeviceBuffer | PinnedBuffer) -> None:
        """Frees memory."""

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""

    def destroy_stream(self, stream: int) -> None:
        """Destroys a stream."""

    def synchronize(self, stream: int) -> None:
        """Waits until the stream's work is done; raises the errors of that work."""

    def create_event(self, *, timed: bool = False) -> int:
        """An event; a thread that waits for it sleeps. Only one that is `timed` can be asked when it happened."""

    def destroy_event(self, event: int) -> None:
        """Destroys an event."""

    def record(self, event: int, stream: int) -> None:
        """The event happens when the stream's work so far is done."""

    def wait(self, stream: int, event: int) -> None:
        """The stream's later work waits for the event; an event never recorded has happened."""

    def synchronize_event(self, event: int) -> None:
        """Waits on the host until the event has happened."""

    def elapsed_ms(self, start: int, end: int) -> float:
        """Time between two events that have happened."""

    def copy_in(self, address: int, source: Bytes, stream: int) -> None:
        """Host to device; `source` is pinned, contiguous and unchanged until the stream has copied it."""

    def copy_out(self, target: Bytes, address: int, stream: int) -> None:
        """Device to host; `target` is pinned and contiguous."""

    def copy_within(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Device to device."""

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Captures what `work` puts on the stream as a graph, to be launched many times; nothing runs yet."""

    def launch_graph(self, graph: int, stream: int) -> None:
        """Puts a captured graph on the stream."""

    def destroy_graph(self, graph: int) -> None:
        """Destroys a graph."""

    def load_kernel(self, image: bytes, name: str) -> Any:
        """A kernel of a fatbin or PTX image; it lives as long as the device is open."""

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: tuple[Any, ...],
        stream: int,
    ) -> None:  # fmt: skip
        """Runs a kernel; arguments are NumPy scalars of the kernel's own types (addresses: uint64)."""

    def close(self) -> None:
        """Releases the context; calling it twice is harmless."""
