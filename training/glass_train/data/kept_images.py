"""Decoded images that stay in memory between epochs, as many as there is room for."""

from __future__ import annotations

import threading
from collections.abc import Callable

from glass_rt.image.decode import Image
from glass_rt.machine.limits.memory import tightest

_MOST = 2 << 30  # bytes
_PART = 4  # of the room that a limit leaves


class KeptImages:
    """Images by number, up to `most` bytes of pixels.

    The default is a quarter of the memory that is left, and 2 GiB at most, which all `processes` share.

    Nothing is ever given up for another image: an epoch takes all of them once, so what came last is as far from its
    next use as anything. Any thread may ask.
    """

    def __init__(self, processes: int = 1, most: int | None = None) -> None:
        limit = tightest()
        room = _MOST if limit is None else min(_MOST, limit.room // _PART)
        self._left = room // processes if most is None else most
        self._images: dict[int, Image] = {}
        self._lock = threading.Lock()

    def get(self, index: int, load: Callable[[], Image]) -> Image:
        """The image, as `load` gives it at first. Its pixels must not be changed."""
        image = self._images.get(index)
        if image is None:
            image = load()
            with self._lock:
                if index not in self._images and image.pixels.nbytes <= self._left:
                    self._left -= image.pixels.nbytes
                    self._images[index] = image
        return image
