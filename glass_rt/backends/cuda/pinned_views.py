"""Views made in memory that the GPU copies from by itself: packs lie in pinned memory, and no thread copies them again.

It was tried on a GPU in memory; no real one has run it yet.
"""

from __future__ import annotations

import logging
import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.backends.cuda.gpu import Bytes, GpuDriver, GpuOutOfMemory, PinnedBuffer
from glass_rt.backends.cuda.kept_memory import KeptMemory
from glass_rt.image.views import HostViews
from glass_rt.machine.limits.memory import MB, smallest_limit

_MOST_PINNED = 2048 * MB  # five packs of six full runs of 256 views
_PINNED_PART = 8  # of the limit: nothing else can have what is pinned

log = logging.getLogger("glass_rt")


class PinnedViews(HostViews):
    """A `glass_rt.image.views.ViewWriter` whose arrays lie in pinned memory, of which it takes at most `most_bytes`.

    What is pinned is lost to everything else on the machine, and some systems give little of it (WSL). So arrays beyond
    that lie in ordinary memory, and engines copy them first. Any thread may call. This object owns `gpu` and closes it.
    """

    def __init__(self, gpu: GpuDriver, most_bytes: int) -> None:
        self._gpu = gpu
        self._memory = KeptMemory(gpu, gpu.allocate_pinned, most_bytes)
        self._closed = False

    def empty(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array of any content; its memory is used again once it and its slices are dropped."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._pinned(nbytes) if nbytes else None
        if memory is None:
            return super().empty(shape, dtype)
        lease = _Lease(memory.array[:nbytes])
        weakref.finalize(lease, self._memory.give_back, memory).atexit = False
        array: NDArray[Any] = np.asarray(lease).view(dtype).reshape(shape)
        return array

    def close(self) -> None:
        """Frees the memory, that of arrays which still exist with them, and closes the device with the last.

        A thread that writes an array in freed memory would end the process.
        """
        if not self._closed:
            self._closed = True
            self._memory.close_unused(self._gpu.close)

    def _pinned(self, nbytes: int) -> PinnedBuffer | None:
        try:
            return self._memory.take(nbytes)
        except GpuOutOfMemory as error:
            log.info("no more packs lie in pinned memory: %s", error)
            self._memory.hold_no_more()
            return None


class _Lease:
    """What the arrays over a piece of pinned memory keep alive: NumPy's name for it is their base."""

    def __init__(self, memory: Bytes) -> None:
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__


def most_pinned(asked: int | None) -> int:
    """Bytes of memory that packs may pin; `asked`: bytes that the user lets this process hold, None for no limit."""
    limit = smallest_limit(asked)
    return _MOST_PINNED if limit is None else min(_MOST_PINNED, limit // _PINNED_PART)


def is_pinned(array: NDArray[Any]) -> bool:
    """Whether the device can copy from the array as it is: contiguous, and memory that PinnedViews gave."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, _Lease) and array.flags.c_contiguous
