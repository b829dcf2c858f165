"""An array on the device, with the few operations that packs of views need: slices, single rows and gathered rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from glass_rt.backends.cuda.gpu import DeviceBuffer

Gather = Callable[["DeviceArray", Sequence[int]], "DeviceArray"]


class DeviceArray:
    """Contiguous rows of device memory. While `owner` lives, the memory has no other use.

    A slice is a view, an integer one row of it, a list of rows (or of a truth value per row) a copy, as in NumPy.
    """

    def __init__(self, address: int, shape: tuple[int, ...], dtype: Any, owner: Any, gather: Gather) -> None:
        self.address, self.shape, self.dtype = address, shape, np.dtype(dtype)
        self.owner, self._gather = owner, gather

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * self.row_bytes

    def __getitem__(self, index: Any) -> DeviceArray:
        if isinstance(index, (int, np.integer)):
            rows = range(len(self))[int(index)]
            return DeviceArray(self.address + rows * self.row_bytes, self.shape[1:], self.dtype, self.owner, _no_rows)
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise IndexError("rows on the device are taken one after the other")
            shape = (max(0, stop - start), *self.shape[1:])
            return DeviceArray(self.address + start * self.row_bytes, shape, self.dtype, self.owner, self._gather)
        return self._gather(self, [int(row) for row in np.arange(len(self))[np.asarray(index)]])


def whole(buffer: DeviceBuffer, shape: tuple[int, ...], dtype: Any, gather: Gather) -> DeviceArray:
    """An array at the beginning of a buffer, which it owns."""
    return DeviceArray(buffer.address, shape, dtype, buffer, gather)


def _no_rows(_array: DeviceArray, _rows: Sequence[int]) -> DeviceArray:
    raise IndexError("one view has no rows to gather")
