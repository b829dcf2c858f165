"""Memory of packs, kept for the next pack of the same size: to allocate and to free it stops the device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from glass_rt.backends.cuda.gpu import DeviceBuffer, GpuDriver, GpuOutOfMemory, PinnedBuffer, lost_is_gone

Piece = TypeVar("Piece", DeviceBuffer, PinnedBuffer)
Other = TypeVar("Other", DeviceBuffer, PinnedBuffer)


class KeptMemory(Generic[Piece]):
    """Pieces of one kind of memory, each in use or idle. Any thread may call.

    `allocate` is the device's own call for that kind. All pieces take at most `most_bytes`. Before one is allocated,
    the longest idle are freed until the idle take at most `most_idle`, and all of them where memory is short.
    """

    def __init__(
        self, gpu: GpuDriver, allocate: Callable[[int], Piece], most_bytes: int, most_idle: int | None = None
    ) -> None:
        self._gpu = gpu
        self._allocate: Callable[[int], Piece] = allocate
        self._left = most_bytes
        self._most_idle = most_bytes if most_idle is None else most_idle
        self._lock = threading.RLock()  # a finalizer may run inside of any call
        self._pieces: list[Piece] = []  # in use or idle
        self._idle: list[Piece] = []  # the longest idle comes first
        self._closed = False
        self._after_last: Callable[[], None] = lambda: None

    def take(self, nbytes: int) -> Piece | None:
        """A piece of that size, of any content; None where it would be more than `most_bytes` in all.

        Raises GpuOutOfMemory.
        """
        with self._lock:
            for piece in reversed(self._idle):
                if piece.nbytes == nbytes:
                    self._idle.remove(piece)
                    return piece
            with self._gpu.current():
                self._free_idle(self._most_idle)
                if nbytes > self._left:
                    self._free_idle(0)
                return self._allocated(nbytes) if nbytes <= self._left else None

    def give_back(self, piece: Piece) -> None:
        """The piece is idle. It is not freed before `close`: a finalizer may call this in the midst of another call."""
        with self._lock:
            if not self._closed:
                self._idle.append(piece)
            elif piece in self._pieces:
                self._free(piece)
                self._end_after_last()

    def hold_no_more(self) -> None:
        """From here on all pieces take at most what they take now."""
        with self._lock:
            self._left = 0

    def with_room(self, allocate: Callable[[int], Other], nbytes: int) -> Other:
        """What `allocate` gives, for others too; where memory is used up, once the idle pieces have been freed.

        Called inside `with gpu.current():`. Raises GpuOutOfMemory.
        """
        try:
            return allocate(nbytes)
        except GpuOutOfMemory:
            with self._lock:
                if not self._idle:
                    raise
                self._free_idle(0)
            return allocate(nbytes)

    def close(self) -> None:
        """Frees all pieces, those in use too; calling it twice is harmless. Raises GpuError."""
        with self._lock, self._gpu.current():
            self._closed = True
            self._idle.clear()
            while self._pieces:
                self._gpu.free(self._pieces.pop())

    def close_unused(self, after_last: Callable[[], None]) -> None:
        """Frees the idle pieces, and those in use when they are given back; then calls `after_last`, once."""
        with self._lock:
            self._closed, self._after_last = True, after_last
            for piece in self._idle:
                self._free(piece)
            self._idle.clear()
            self._end_after_last()

    def _free(self, piece: Piece) -> None:
        self._pieces.remove(piece)
        with lost_is_gone(), self._gpu.current():
            self._gpu.free(piece)

    def _end_after_last(self) -> None:
        if not self._pieces:
            self._after_last()

    def _allocated(self, nbytes: int) -> Piece:
        piece = self.with_room(self._allocate, nbytes)
        self._left -= nbytes
        self._pieces.append(piece)
        return piece

    def _free_idle(self, most: int) -> None:
        """Frees the longest idle pieces, until the others take at most so many bytes."""
        while sum(piece.nbytes for piece in self._idle) > most:
            piece = self._idle.pop(0)
            self._pieces.remove(piece)
            self._left += piece.nbytes
            self._gpu.free(piece)
