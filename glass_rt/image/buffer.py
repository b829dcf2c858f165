"""Memory that one thread decodes into again and again.

The system has to find and clear the pages of a new array first, which a fast decoder notices. An image decoded here is
good until the next one is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 1 << 26  # bytes kept between images: 22 megapixels; larger images get memory of their own


class PixelBuffer:
    """At most `LARGEST` bytes, as many as the largest image so far needed. Belongs to one thread."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    @property
    def size(self) -> int:
        """Bytes that are kept now."""
        return len(self._memory)

    def take(self, size: int) -> NDArray[np.uint8]:
        """`size` bytes of any content, valid until the next call."""
        if size > LARGEST:
            return np.empty(size, np.uint8)
        if size > len(self._memory):
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size]
