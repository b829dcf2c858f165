"""How often a GIF's stream of codes starts afresh, found without decoding it.

OpenCV clears its table of codes each time, for 5 microseconds: a stream of nothing else costs minutes for a few MB.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import ImageCorrupt

MOST_RESETS = 300_000  # less than two seconds; encoders start afresh every 126 to 4,000 codes
_LONGEST = 12  # bits of a code
_AT_ONCE = (64, 512, 4096)  # codes looked at behind a reset: few, then more


def may_reset_often(size: int, smallest: int) -> bool:
    """Whether that many bytes of codes, of `smallest` bits and more, have room for too many resets."""
    return 2 <= smallest < _LONGEST and 8 * size // (smallest + 1) > MOST_RESETS


def check_resets(codes: bytes, smallest: int) -> None:
    """Raises ImageCorrupt where the codes, of `smallest` bits and more, start afresh too often."""
    padded = np.frombuffer(codes + bytes(4), np.uint8)
    position, resets, end = 0, 0, 8 * len(codes)
    while (position := _past_reset(padded, position, smallest)) < end:
        resets += 1
        if resets > MOST_RESETS:
            raise ImageCorrupt(f"the GIF's codes start afresh more than {MOST_RESETS} times")


def _past_reset(codes: NDArray[np.uint8], start: int, smallest: int) -> int:
    """One past the bits of the first clear or end code behind `start`, where a run begins; the end if there is none."""
    end = 8 * (len(codes) - 4)
    first = 0
    while True:
        for count in _AT_ONCE:
            offsets, widths = _places(smallest, first, count)
            bits = start + offsets
            bits = bits[bits + widths <= end]
            if not len(bits):
                return end
            at = bits >> 3
            first_byte, second, third = (codes[at + byte].astype(np.uint32) for byte in range(3))
            window = first_byte | second << 8 | third << 16
            values = window >> (bits & 7).astype(np.uint32) & ((1 << widths[: len(bits)]) - 1).astype(np.uint32)
            found = np.flatnonzero((values == 1 << smallest) | (values == (1 << smallest) + 1))
            if len(found):
                return int(bits[found[0]] + widths[found[0]])
            first += count


@cache
def _widths(smallest: int) -> tuple[int, ...]:
    """Bits of the codes of a run until they are longest (GIF89a, appendix F)."""
    return tuple(((1 << smallest) + 1 + index).bit_length() for index in range((1 << _LONGEST - 1) - (1 << smallest)))


def _places(smallest: int, first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the codes `first` to `first + count - 1` of a run begin, in bits from its start, and how long they are."""
    offsets, widths = _table(smallest)
    last = len(offsets) - 1
    index = np.arange(first, first + count)
    beyond = np.maximum(index - last, 0)
    index = np.minimum(index, last)
    return offsets[index] + beyond * _LONGEST, widths[index]


@cache
def _table(smallest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    widths = np.array([*_widths(smallest), _LONGEST, _LONGEST], np.int64)
    return np.concatenate([[0], np.cumsum(widths)[:-1]]), widths
