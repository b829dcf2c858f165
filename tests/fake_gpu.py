"""A GPU in memory, to test code above GpuDriver on machines without a GPU.

It is as lazy as a real one: work on a stream happens when a caller waits for it, in the streams' order and after the
events that it waits for. So a buffer that is overwritten during its copy, or read before a copy out is done, gives wrong
numbers here too.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from glass_rt.backends.cuda.gpu import Bytes, DeviceBuffer, GpuError, PinnedBuffer, gpu_error

Work: TypeAlias = Callable[[], bool]  # False: it waits for another stream and must be tried again


class FakeGpu:
    """A GpuDriver in memory. `memory_bytes` is the size of its memory.

    `fail(call, status, after)` lets a call fail; `live` counts what was not freed; `peak_bytes` and `calls` record
    what happened. A status that loses a context fails every later call, as the driver does.
    """

    name = "Fake GPU"
    compute_capability = "8.9"

    def __init__(self, memory_bytes: int = 1 << 33, *, captures_graphs: bool = True) -> None:
        self.captures_graphs = captures_graphs
        self.calls: list[str] = []
        self.kernels: dict[str, Callable[..., None]] = {}
        self.peak_bytes = 0
        self._capacity = memory_bytes
        self._used = 0
        self._handles = itertools.count(0x1000)
        self._memory: dict[int, Bytes] = {}
        self._pinned: set[int] = set()
        self._streams: dict[int, deque[Work]] = {}
        self._events: dict[int, tuple[int, int, int]] = {}  # recorded, happened, stream
        self._timed = set[int]()
        self._graphs: dict[int, list[Work]] = {}
        self._capturing: tuple[int, list[Work]] | None = None
        self._failures: dict[str, list[tuple[int, str]]] = {}
        self._lost: GpuError | None = None
        self._lock = threading.RLock()
        self._local = threading.local()
        self.closed = False

    # For tests -----------------------------------------------------------------------------------

    def fail(self, call: str, status: str, after: int = 0) -> None:
        """The call of that name (a method's, or `run` for work on a stream) fails once, `after` calls from now."""
        self._failures.setdefault(call, []).append((after, status))

    @property
    def live(self) -> dict[str, int]:
        """Counts, by kind, what is allocated or created and not freed."""
        counts = {
            "device": len(self._memory), "pinned": len(self._pinned), "streams": len(self._streams),
            "events": len(self._events), "graphs": len(self._graphs),
        }  # fmt: skip
        return {kind: count for kind, count in counts.items() if count}

    @property
    def is_capturing(self) -> bool:
        """Whether what is put on a stream becomes part of a graph."""
        return self._capturing is not None

    def bytes_at(self, address: int, nbytes: int) -> Bytes:
        """A view of device memory at any place in a buffer."""
        for start, memory in self._memory.items():
            if start <= address and address + nbytes <= start + len(memory):
                return memory[address - start : address - start + nbytes]
        self._lost = gpu_error("access", "ILLEGAL_ADDRESS")
        raise self._lost

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        """Puts a kernel's work on a stream, or into the graph that is captured from it."""
        self._enter("enqueue")

        def run() -> bool:
            self._maybe_fail("run")
            work()
            return True

        self._put(stream, run)

    # The seam ------------------------------------------------------------------------------------

    @contextmanager
    def current(self) -> Iterator[None]:
        self._local.depth = getattr(self._local, "depth", 0) + 1
        try:
            yield
        finally:
            self._local.depth -= 1

    def memory(self) -> tuple[int, int]:
        if self._lost is not None:
            raise self._lost
        return self._capacity - self._used, self._capacity

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """Fresh memory is full of garbage."""
        with self._lock:
            self._enter("allocate")
            if self._used + nbytes > self._capacity:
                raise gpu_error("allocate", "OUT_OF_MEMORY")
            self._used += nbytes
            self.peak_bytes = max(self.peak_bytes, self._used)
            address = next(self._handles) << 32
            self._memory[address] = np.full(nbytes, 0xA5, np.uint8)
            return DeviceBuffer(address, nbytes)

    def allocate_pinned(self, nbytes: int) -> PinnedBuffer:
        self._enter("allocate_pinned")
        buffer = PinnedBuffer(np.full(nbytes, 0xA5, np.uint8))
        self._pinned.add(id(buffer))
        return buffer

    def free(self, buffer: DeviceBuffer | PinnedBuffer) -> None:
        """Freeing twice fails."""
        with self._lock:
            if isinstance(buffer, DeviceBuffer):
                del self._memory[buffer.address]
                self._used -= buffer.nbytes
            else:
                self._pinned.remove(id(buffer))
            self._leave("free")

    def create_stream(self) -> int:
        self._enter("create_stream")
        stream = next(self._handles)
        self._streams[stream] = deque()
        return stream

    def destroy_stream(self, stream: int) -> None:
        del self._streams[stream]
        self._leave("destroy_stream")

    def synchronize(self, stream: int) -> None:
        self._enter("synchronize")
        self._drain(lambda: not self._streams[stream])

    def create_event(self, *, timed: bool = False) -> int:
        self._enter("create_event")
        event = next(self._handles)
        self._timed |= {event} if timed else set()
        self._events[event] = (0, 0, 0)
        return event

    def destroy_event(self, event: int) -> None:
        del self._events[event]
        self._leave("destroy_event")

    def record(self, event: int, stream: int) -> None:
        self._enter("record")
        ticket = self._events[event][0] + 1
        self._events[event] = (ticket, self._events[event][1], stream)

        def happen() -> bool:
            recorded, _, where = self._events[event]
            self._events[event] = (recorded, ticket, where)
            return True

        self._put(stream, happen)

    def wait(self, stream: int, event: int) -> None:
        self._enter("wait")
        ticket = self._events[event][0]
        self._put(stream, lambda: self._events[event][1] >= ticket)

    def synchronize_event(self, event: int) -> None:
        self._enter("synchronize_event")
        ticket = self._events[event][0]
        self._drain(lambda: self._events[event][1] >= ticket)

    def elapsed_ms(self, start: int, end: int) -> float:
        """One millisecond, always."""
        assert {start, end} <= self._timed, "an event that is not timed does not know when it happened"
        return 1.0

    def copy_in(self, address: int, source: Bytes, stream: int) -> None:
        self._enter("copy_in")
        self._put(stream, lambda: self._copy(self.bytes_at(address, source.nbytes), source))

    def copy_out(self, target: Bytes, address: int, stream: int) -> None:
        self._enter("copy_out")
        self._put(stream, lambda: self._copy(target, self.bytes_at(address, target.nbytes)))

    def copy_within(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self._enter("copy_within")
        self._put(stream, lambda: self._copy(self.bytes_at(target, nbytes), self.bytes_at(source, nbytes)))

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        with self._lock:
            self._enter("capture")
            self._capturing = (stream, [])
            try:
                work()
                captured = self._capturing[1]
            finally:
                self._capturing = None
            graph = next(self._handles)
            self._graphs[graph] = captured
            return graph

    def launch_graph(self, graph: int, stream: int) -> None:
        self._enter("launch_graph")
        self._streams[stream].extend(self._graphs[graph])

    def destroy_graph(self, graph: int) -> None:
        del self._graphs[graph]
        self._leave("destroy_graph")

    def load_kernel(self, image: bytes, name: str) -> Any:
        """The kernel is its name."""
        self._enter("load_kernel")
        return name

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: tuple[Any, ...],
        stream: int,
    ) -> None:  # fmt: skip
        """A kernel does what `kernels` has under its name: a function of grid, block and arguments."""
        self._enter("launch")
        emulated = self.kernels.get(kernel)

        def run() -> bool:
            self._maybe_fail("run")
            if emulated is not None:
                emulated(grid, block, arguments)
            return True

        self._put(stream, run)

    def close(self) -> None:
        self.closed = True

    # How ------------------------------------------------------------------------------------------

    def _enter(self, call: str) -> None:
        assert getattr(self._local, "depth", 0), f"{call} outside of `with gpu.current()`"
        assert not self.closed, f"{call} after close"
        self.calls.append(call)
        if self._lost is not None:
            raise self._lost
        self._maybe_fail(call)

    def _leave(self, call: str) -> None:
        """As `_enter`, for calls that free something: a lost context refuses them, and what it held is gone."""
        self.calls.append(call)
        if self._lost is not None:
            raise self._lost

    def _maybe_fail(self, call: str) -> None:
        waiting = self._failures.get(call, [])
        for index, (after, status) in enumerate(waiting):
            waiting[index] = (after - 1, status)
            if after == 0:
                del waiting[index]
                error = gpu_error(call, status)
                self._lost = error if error.lost else self._lost
                raise error

    def _put(self, stream: int, work: Work) -> None:
        with self._lock:
            if self._capturing is not None and self._capturing[0] == stream:
                self._capturing[1].append(work)
            else:
                self._streams[stream].append(work)

    def _copy(self, target: Bytes, source: Bytes) -> bool:
        self._maybe_fail("run")
        target[:] = source
        return True

    def _drain(self, finished: Callable[[], bool]) -> None:
        """Works through the streams, the newest first, so that a missing event shows."""
        with self._lock:
            while not finished():
                progress = False
                for queue in reversed(self._streams.values()):
                    while queue and queue[0]():
                        queue.popleft()
                        progress = True
                        if finished():
                            return
                assert progress, "streams wait for each other"
