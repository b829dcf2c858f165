"""How glibc's malloc keeps memory that was freed, for processes that are glass-rt's own.

Left to itself it serves arrays of up to 32 MB from heaps, one per thread, once one such array was freed; heaps give
memory back only from their end, and what one thread's heap keeps is of no use to another.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
# Bytes from which an array gets pages of its own, and gives them back when it is freed: more than an image's views
# take, for which getting new pages every time costs more than it gains.
_LARGE = 1 << 24
_CHOSEN_BY_USER = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def give_back_large_arrays() -> None:
    """Lets malloc give large arrays back as soon as they are freed, and share one heap; for the process's whole life.

    To be called where a process of glass-rt's own starts: a library that is imported has no say in this. Nothing
    happens without glibc, or where the environment says how malloc is to be.
    """
    if any(name in os.environ for name in _CHOSEN_BY_USER):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: Windows, where there is no such thing as None
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE)  # as glibc chooses it; where it is not said, the heap's end comes and goes
    mallopt(_M_ARENA_MAX, 1)
