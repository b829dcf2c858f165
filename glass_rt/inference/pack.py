"""The views of several images side by side, in the arrays that the engines read."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import GlassError, drop_frames, vendor_failure
from glass_rt.image.decode import Pixels
from glass_rt.image.views import HostViews, ViewWriter

if TYPE_CHECKING:
    from glass_rt.inference.judgement import Judgement, Stopping


class Slot:
    """One image's place in a pack: arrays to write its views into. What is written here is what the engine reads.

    `global_view` is float32 (size, size, 3), `crops` uint8 (K, size, size, 3), rows `crop_range` of the pack's crops.
    `judgement` is fulfilled once the pack has been judged; cancelling it before gives the place up.
    """

    def __init__(self, global_view: NDArray[np.float32], crops: Pixels, crop_range: range) -> None:
        self.global_view = global_view
        self.crops = crops
        self.crop_range = crop_range
        self.draws = 1  # the crops are this many independent samplings, one after the other
        self.stopping: Stopping | None = None  # with it, fewer crops may do
        self.judgement: Future[Judgement] = Future()


class Pack:
    """A ragged batch: B global views, and N crops of which image i owns K_i.

    `reserve` hands out places until the pack is full; arrays are allocated once at their full size.
    """

    def __init__(self, crop_size: int, max_images: int, max_crops: int, views: ViewWriter | None = None) -> None:
        empty = (views or HostViews()).empty
        self._globals = empty((max_images, crop_size, crop_size, 3), np.float32)
        self._crops = empty((max_crops, crop_size, crop_size, 3), np.uint8)
        self.slots: list[Slot] = []
        self.unfilled = 0

    @property
    def num_crops(self) -> int:
        """Crops reserved so far."""
        return self.slots[-1].crop_range.stop if self.slots else 0

    def reserve(self, num_crops: int) -> Slot | None:
        """A place for an image with `num_crops` crops, or None where the pack has no room for it."""
        start = self.num_crops
        if len(self.slots) == len(self._globals) or start + num_crops > len(self._crops):
            return None
        crop_range = range(start, start + num_crops)
        slot = Slot(self._globals[len(self.slots)], self._crops[start : crop_range.stop], crop_range)
        self.slots.append(slot)
        self.unfilled += 1
        return slot

    def drop_cancelled(self) -> None:
        """Takes out the images that were given up meanwhile; from here on the others cannot be.

        The views of the others move together. Where that fails, for want of memory, so does every image of the pack.
        """
        wanted = [index for index, slot in enumerate(self.slots) if slot.judgement.set_running_or_notify_cancel()]
        if len(wanted) == len(self.slots):
            return
        self.slots = [self.slots[index] for index in wanted]
        if not wanted:
            return
        try:
            self._globals = self._globals[wanted]
            self._crops = self._crops[[row for slot in self.slots for row in slot.crop_range]]
        except Exception as error:
            self._fail(error)
            return
        start = 0
        for slot in self.slots:
            slot.crop_range = range(start, start + len(slot.crop_range))
            start = slot.crop_range.stop

    def _fail(self, error: Exception) -> None:
        """All of its images fail: an error of the thread that judges would leave every image waiting for good."""
        drop_frames(error)
        failure = error if isinstance(error, GlassError) else vendor_failure("NumPy", "move views together", error)
        for slot in self.slots:
            slot.judgement.set_exception(failure)
        self.slots = []

    @property
    def global_views(self) -> NDArray[np.float32]:
        """float32 (B, size, size, 3) of the images reserved so far."""
        views: NDArray[np.float32] = self._globals[: len(self.slots)]
        return views

    @property
    def crops(self) -> Pixels:
        """uint8 (N, size, size, 3) of the crops reserved so far."""
        crops: Pixels = self._crops[: self.num_crops]
        return crops


class Packer:
    """Hands out slots to the threads that decode, and packs to the thread that judges.

    A pack goes to the judge as soon as the judge is free, with the images that are there by then: an idle engine
    never waits for a full batch, a busy one finds the next batch filled up meanwhile. `views` makes the packs' arrays;
    where it is on a device, they are arrays of the device.
    """

    def __init__(self, crop_size: int, max_crops: int, max_images: int, views: ViewWriter | None = None) -> None:
        self.views = views or HostViews()
        self._crop_size, self._max_crops, self._max_images = crop_size, max_crops, max_images
        self._changed = threading.Condition()
        self._packs: deque[Pack] = deque()  # all but the last take no more images
        self._closed = False

    def reserve(self, num_crops: int) -> Slot:
        """A place in the open pack, or in a new one. Raises MemoryError where there is no memory for it."""
        with self._changed:
            slot = self._packs[-1].reserve(num_crops) if self._packs else None
            if slot is None:
                images = self._max_images if num_crops == 0 else max(1, self._max_crops // num_crops)
                crops = max(num_crops, self._max_crops if num_crops else 0)
                self._packs.append(Pack(self._crop_size, images, crops, self.views))
                slot = self._packs[-1].reserve(num_crops)
            assert slot is not None, "a new pack has room for the image it was made for"
            return slot

    def filled(self, slot: Slot) -> None:
        """The views are in their place."""
        with self._changed:
            pack = next(pack for pack in self._packs if slot in pack.slots)
            pack.unfilled -= 1
            self._changed.notify_all()

    def take(self, *, wait: bool = True) -> Pack | None:
        """A pack whose views are all there, after a `wait` if need be; None where none is, or `close` was called."""
        while True:
            with self._changed:
                if wait:
                    self._changed.wait_for(lambda: self._closed or self._one_is_full())
                if self._closed or not self._one_is_full():
                    return None
                pack = self._packs.popleft()
            pack.drop_cancelled()
            if pack.slots:
                return pack

    def _one_is_full(self) -> bool:
        return bool(self._packs) and self._packs[0].unfilled == 0

    def close(self) -> None:
        """Lets `take` return None, and gives up the images that were not taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for pack in self._packs:
            for slot in pack.slots:
                slot.judgement.cancel()
