"""A JPEG's quality, 1..100, estimated from its table of quantisation for brightness."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

# ITU-T T.81, table K.1, in zigzag order, as DQT segments hold it. libjpeg scales it by the quality that is asked for.
_LUMINANCE = np.array(
    [
        16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51,
        61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77,
        113, 121, 112, 100, 120, 92, 101, 103, 99,
    ],
    np.int64,
)  # fmt: skip


def quality_of_table(table: bytes, *, wide: bool) -> int | None:
    """The quality at which libjpeg writes the table nearest to this one; 64 bytes, or 128 of a `wide` one.

    None for a table that is cut short. Encoders with tables of their own are given the quality of the libjpeg table
    that is as coarse.
    """
    values = np.frombuffer(table, np.dtype(">u2") if wide else np.uint8).astype(np.int64)
    if len(values) != len(_LUMINANCE):
        return None
    return int(np.abs(_tables(32767 if wide else 255) - values).sum(axis=1).argmin()) + 1


@cache
def _tables(largest: int) -> NDArray[np.int64]:
    """The tables of qualities 1..100, (100, 64), as jpeg_set_quality of libjpeg makes them, up to `largest`."""
    quality = np.arange(1, 101)
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((_LUMINANCE * percent[:, None] + 50) // 100, 1, largest)
